//! The version of PodCertificateRequest that a server has, and an object together with the
//! server's own time.

use std::sync::{Mutex, PoisonError};

use kube::Client;
use kube::api::{ApiResource, DynamicObject, GetParams, Request};

use crate::clock::UnixTime;
use crate::controllers::http;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "podcertificaterequests";
/// The newest is taken first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The version that the cluster was last seen to have.
#[derive(Debug)]
pub(super) struct Version(Mutex<&'static str>);

impl Default for Version {
    fn default() -> Self {
        Self(Mutex::new("v1"))
    }
}

impl Version {
    /// Asks the server; a server with neither is taken for one with v1 and says so itself.
    pub(super) async fn discover(&self, client: &Client) -> Result<ApiResource, kube::Error> {
        for version in VERSIONS {
            let group = format!("{GROUP}/{version}");
            match client.list_api_group_resources(&group).await {
                Ok(list) if list.resources.iter().any(|r| r.name == RESOURCE) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = version;
                    break;
                }
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.known())
    }

    /// As it was seen last.
    pub(super) fn known(&self) -> ApiResource {
        let version = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ApiResource {
            group: GROUP.to_owned(),
            version: version.to_owned(),
            api_version: format!("{GROUP}/{version}"),
            kind: "PodCertificateRequest".to_owned(),
            plural: RESOURCE.to_owned(),
        }
    }
}

/// An object, and when that was by the server's clock.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) object: DynamicObject,
    pub(super) server: UnixTime,
}

/// Reads one object; `None` when there is none.
pub(super) async fn read(
    client: &Client,
    resource: &ApiResource,
    namespace: &str,
    name: &str,
) -> Result<Option<Found>, kube::Error> {
    let path = format!(
        "/apis/{}/namespaces/{namespace}/{RESOURCE}",
        resource.api_version
    );
    let request = Request::new(path).get(name, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let Some((headers, body)) = http::send(client, request).await? else {
        return Ok(None);
    };
    let date = headers.get(::http::header::DATE);
    let date = date.and_then(|value| server_time(value.to_str().ok()?));
    let object = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    let Some(server) = date else {
        let why = "the API server's answer has no Date";
        let said = kube::core::Status::failure(why, "NoDate");
        return Err(kube::Error::Api(Box::new(said)));
    };
    Ok(Some(Found { object, server }))
}

/// An HTTP date (RFC 9110 §5.6.7) in the one form that is sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn server_time(date: &str) -> Option<UnixTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let date = date.strip_suffix(" GMT")?.split_once(", ")?.1;
    let mut parts = date.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let text = format!("{year}-{month:02}-{day}T{time}Z");
    let at = humantime::parse_rfc3339(&text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().map(UnixTime::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        let read = |text| server_time(text).map(UnixTime::secs);
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
