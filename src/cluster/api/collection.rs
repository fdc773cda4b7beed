//! A collection of objects, and its list page by page.

use std::vec;

use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::{ApiClient, PAGE};
use super::error::ApiError;

/// Objects of one kind, and which of them.
#[derive(Clone, Debug)]
pub struct Collection {
    path: String,
    fields: Option<String>,
    labels: Option<String>,
    page_size: u32,
    metadata_only: bool,
}

impl Collection {
    /// The objects at a path such as `/api/v1/pods`.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            fields: None,
            labels: None,
            page_size: 250,
            metadata_only: false,
        }
    }

    /// Only those that a field selector matches.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Only those that a label selector matches.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Objects in one answer to a list.
    #[must_use]
    pub fn page_size(mut self, objects: u32) -> Self {
        self.page_size = objects;
        self
    }

    /// The API server sends the objects' metadata and nothing else.
    #[must_use]
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    fn page_request(&self, token: &str) -> Result<http::Request<Vec<u8>>, ApiError> {
        let mut params = ListParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            ..ListParams::default().limit(self.page_size)
        };
        if !token.is_empty() {
            params = params.continue_token(token);
        }
        let request = Request::new(self.path.as_str());
        Ok(match self.metadata_only {
            true => request.list_metadata(&params)?,
            false => request.list(&params)?,
        })
    }

    pub(super) fn watch_request(
        &self,
        version: &str,
        seconds: u32,
    ) -> Result<http::Request<Vec<u8>>, ApiError> {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            ..WatchParams::default().timeout(seconds)
        };
        let request = Request::new(self.path.as_str());
        Ok(match self.metadata_only {
            true => request.watch_metadata(&params, version)?,
            false => request.watch(&params, version)?,
        })
    }
}

/// The most objects of a list that is held as a whole.
const MAX_COLLECTED: usize = 5_000;
/// The most objects of one list. Kubernetes is made for 150,000 pods in a cluster.
const MAX_OBJECTS: usize = 250_000;
/// So many pages may be empty.
const MORE_PAGES: usize = 64;

#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMeta,
    /// Go writes an empty list as null.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
}

/// The pages of one list.
#[derive(Debug)]
pub(in crate::cluster) struct Pages<T> {
    collection: Collection,
    token: String,
    objects: vec::IntoIter<T>,
    /// Of the whole list, once its last page is read.
    version: Option<String>,
    pages: usize,
    found: usize,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(in crate::cluster) fn new(collection: Collection) -> Self {
        Self {
            collection,
            token: String::new(),
            objects: Vec::new().into_iter(),
            version: None,
            pages: 0,
            found: 0,
        }
    }

    /// `None` after the last object.
    pub(in crate::cluster) async fn next(
        &mut self,
        client: &ApiClient,
    ) -> Result<Option<T>, ApiError> {
        loop {
            if let Some(object) = self.objects.next() {
                return Ok(Some(object));
            }
            if self.version.is_some() {
                return Ok(None);
            }
            let page = self.page(client).await.inspect_err(|error| {
                if error.is_without_bounds() {
                    client.distrust(error);
                }
            })?;
            let token = page.metadata.token;
            if token.is_empty() {
                self.version = Some(page.metadata.resource_version);
            } else if token == self.token {
                return Err(ApiError::Unreadable("the list does not advance"));
            }
            self.token = token;
            self.objects = page.items.unwrap_or_default().into_iter();
        }
    }

    /// One page; fewer objects are requested when it is longer than the longest answer.
    async fn page(&mut self, client: &ApiClient) -> Result<Page<T>, ApiError> {
        let page: Page<T> = loop {
            let request = self.collection.page_request(&self.token)?;
            match client.call_within(request, PAGE).await {
                Err(ApiError::TooLarge(_)) if self.collection.page_size > 1 => {
                    self.collection.page_size = (self.collection.page_size / 4).max(1);
                }
                answer => break answer?,
            }
        };
        self.pages += 1;
        self.found += page.items.as_ref().map_or(0, Vec::len);
        // Pages are full but for the last one, and fuller than a tenth where an API server ends them
        // early.
        let size = usize::try_from(self.collection.page_size).unwrap_or(1);
        match self.found > MAX_OBJECTS || self.pages > MORE_PAGES + self.found * 10 / size {
            true => Err(ApiError::Endless(self.found)),
            false => Ok(page),
        }
    }

    /// Where a watch continues after the last object: the collection and its resourceVersion.
    pub(in crate::cluster) fn position(&self) -> Result<(Collection, String), ApiError> {
        let version = self.version.clone().filter(|version| !version.is_empty());
        let version = version.ok_or(ApiError::Unreadable("the list has no resourceVersion"))?;
        Ok((self.collection.clone(), version))
    }
}

impl ApiClient {
    /// Passes every object of a collection to `found`; some of them also when it fails.
    pub async fn for_each<T: DeserializeOwned>(
        &self,
        collection: Collection,
        mut found: impl FnMut(T),
    ) -> Result<(), ApiError> {
        let mut pages = Pages::new(collection);
        while let Some(object) = pages.next(self).await? {
            found(object);
        }
        Ok(())
    }

    pub async fn list<T: DeserializeOwned>(
        &self,
        collection: Collection,
    ) -> Result<Vec<T>, ApiError> {
        let (mut all, mut pages) = (Vec::new(), Pages::new(collection));
        while let Some(object) = pages.next(self).await? {
            if all.len() >= MAX_COLLECTED {
                return Err(ApiError::Endless(MAX_COLLECTED));
            }
            all.push(object);
        }
        Ok(all)
    }
}
