//! `sign/ROLE`: leaves. Policy decides on the caller and the names, the role's profile on the rest.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::api::{Call, Holder, VaultApi, pem, whole_path};
use super::ca::{not_initialised, serial};
use super::config::Mount;
use super::envelope::Answer;
use super::error::VaultError;
use super::fields::Fields;
use crate::authn::Caller;
use crate::clock::in_words;
use crate::issuance::{Category, Class, IssuanceRequest, IssueError, Issued, Naming};
use crate::policy::{Profile, Scope};
use crate::x509::{Certificate, Csr, DnsName, San};

/// How long a request waits for room in the HSM's queue: to cert-manager an error is final.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked of a certificate.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) csr: Csr,
    pub(super) profile: String,
    pub(super) names: Vec<San>,
    pub(super) ttl: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Ca,
}

impl VaultApi {
    pub(super) async fn sign_leaf(
        &self,
        mount: &Mount,
        role: &str,
        holder: &Holder,
        fields: &Fields,
        call: &Call<'_>,
    ) -> Result<Answer, VaultError> {
        let give_up = Instant::now() + PATIENCE;
        self.wait_for_room(holder.caller(), give_up).await?;
        self.issuer(mount).ok_or_else(|| not_initialised(mount))?;
        let profile = self.role_profile(mount, role)?;
        let csr = csr(fields)?;
        let csr = Csr::from_pem(csr.as_bytes())?;
        let mut warnings = Vec::new();
        let wanted = Wanted {
            names: names(fields, &csr)?,
            csr,
            profile: profile.name().to_owned(),
            ttl: lifetime(fields, &profile, &mut warnings)?,
        };
        let issued = self
            .issue(Kind::Leaf, holder.requester(), wanted, give_up, call)
            .await?;
        Ok(Answer::Data {
            data: issued_data(&issued, fields)?,
            warnings,
        })
    }

    /// Waits a while for room before the work that a CSR makes.
    async fn wait_for_room(&self, caller: &Caller, give_up: Instant) -> Result<(), IssueError> {
        loop {
            match self.authorities.look(caller, false) {
                Err(error) if may_pass(&error) && Instant::now() < give_up => {
                    pause(&error, give_up).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Issues, and waits until `give_up` when there is no room or the same request is in progress.
    pub(super) async fn issue(
        &self,
        kind: Kind,
        caller: Caller,
        wanted: Wanted,
        give_up: Instant,
        call: &Call<'_>,
    ) -> Result<Issued, IssueError> {
        loop {
            let Wanted {
                csr,
                profile,
                names,
                ttl,
            } = wanted.clone();
            let request = IssuanceRequest {
                caller: caller.clone(),
                csr,
                profile,
                names,
                ttl,
                scope: Scope::Requested,
                naming: Naming::Spiffe,
                node_authorization: None,
                idempotency_key: None,
                request_id: call.id.to_string(),
                lease: None,
            };
            let outcome = match kind {
                Kind::Leaf => self.authorities.issue(request).await,
                Kind::Ca => self.authorities.issue_ca(request).await,
            };
            match outcome {
                Err(error) if may_pass(&error) && Instant::now() < give_up => {
                    pause(&error, give_up).await;
                }
                outcome => return outcome,
            }
        }
    }
}

async fn pause(error: &IssueError, give_up: Instant) {
    let pause = error.retry_after().unwrap_or(PAUSE);
    sleep(pause.min(give_up - Instant::now())).await;
}

/// Whether the same request may succeed in a moment.
fn may_pass(error: &IssueError) -> bool {
    let category = error.category();
    category.class() == Class::Busy || category == Category::IdempotencyKeyPending
}

/// The CSR in PEM.
pub(super) fn csr(fields: &Fields) -> Result<String, VaultError> {
    match fields.text("csr")? {
        csr if csr.trim().is_empty() => Err(VaultError::invalid("\"csr\" is empty")),
        csr => Ok(csr),
    }
}

/// The names of the CSR, or those of the fields where it has none. Fields may repeat what the CSR says;
/// what they say beyond it is refused by policy as names that differ.
fn names(fields: &Fields, csr: &Csr) -> Result<Vec<San>, VaultError> {
    if fields.has("other_sans") {
        return Err(VaultError::invalid(
            "other_sans: such names are not certified",
        ));
    }
    let mut names = named(fields)?;
    let excluded = fields.flag("exclude_cn_from_sans")?;
    let common_name = Some(fields.text("common_name")?).filter(|name| !name.is_empty());
    if let Some(name) = common_name.filter(|_| !excluded) {
        let name = common_name_as_san("common_name", &name)?;
        if !names.contains(&name) {
            names.insert(0, name);
        }
    }
    if names.iter().all(|name| csr.names().contains(name)) && !csr.names().is_empty() {
        return Ok(csr.names().to_vec());
    }
    if names.is_empty()
        && !excluded
        && let Some(name) = csr.common_name()
    {
        names.push(common_name_as_san("csr: commonName", name)?);
    }
    Ok(names)
}

/// The names in `alt_names`, `ip_sans` and `uri_sans`.
pub(super) fn named(fields: &Fields) -> Result<Vec<San>, VaultError> {
    let mut names = Vec::new();
    for (field, prefix) in [("alt_names", "dns:"), ("ip_sans", "ip:"), ("uri_sans", "")] {
        for text in fields.list(field)? {
            // Of a URI only the schema of SPIFFE is certified, so no text can be of another kind.
            let is_uri = text.starts_with("spiffe:");
            let name = match prefix.is_empty() == is_uri {
                true => format!("{prefix}{text}")
                    .parse::<San>()
                    .map_err(|error| error.to_string()),
                false => Err("such names are not certified".to_owned()),
            };
            let name = name.map_err(|why| VaultError::invalid(format!("{field}: {why}")))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn common_name_as_san(field: &str, name: &str) -> Result<San, VaultError> {
    DnsName::parse(name).map(San::Dns).map_err(|error| {
        VaultError::invalid(format!(
            "{field}: {error}; a name that is no DNS name needs exclude_cn_from_sans"
        ))
    })
}

/// The lifetime that is asked for, or the longest that the profile allows.
pub(super) fn lifetime(
    fields: &Fields,
    profile: &Profile,
    warnings: &mut Vec<String>,
) -> Result<Option<Duration>, VaultError> {
    if fields.has("not_after") {
        return Err(VaultError::invalid("not_after: give the lifetime in `ttl`"));
    }
    let most = profile.max_ttl();
    let asked = fields.duration("ttl")?;
    // Certificates have whole seconds.
    let asked = asked.map(|asked| Duration::from_secs(asked.as_secs().max(1)));
    Ok(asked.map(|asked| {
        if asked > most {
            let [asked, most] = [asked, most].map(in_words);
            warnings.push(format!(
                "TTL \"{asked}\" is longer than permitted maxTTL \"{most}\", so maxTTL is being used"
            ));
        }
        asked.min(most)
    }))
}

/// The `data` of a signed certificate.
pub(super) fn issued_data(issued: &Issued, fields: &Fields) -> Result<Value, VaultError> {
    signed(issued.certificate(), &whole_path(issued.issuer()), fields)
}

/// `above` begins with the certificate's issuer.
pub(super) fn signed(
    certificate: &Certificate,
    above: &[&Certificate],
    fields: &Fields,
) -> Result<Value, VaultError> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let in_der = |each: &Certificate| STANDARD.encode(each.der());
    let chain: Vec<String> = above.iter().map(|each| pem(each)).collect();
    let (own, issuing, chain) = match fields.text("format")?.as_str() {
        "" | "pem" => (pem(certificate), chain.first().cloned(), chain),
        "pem_bundle" => {
            let all = std::iter::once(pem(certificate)).chain(chain.iter().cloned());
            let bundle = all.collect::<Vec<_>>().join("\n");
            (bundle, chain.first().cloned(), chain)
        }
        "der" => {
            let chain: Vec<String> = above.iter().map(|each| in_der(each)).collect();
            (in_der(certificate), chain.first().cloned(), chain)
        }
        _ => {
            let why = "the \"format\" parameter must be one of pem, der, or pem_bundle";
            return Err(VaultError::invalid(why));
        }
    };
    Ok(json!({
        "certificate": own,
        "issuing_ca": issuing.unwrap_or_default(),
        "ca_chain": chain,
        "serial_number": serial(certificate),
        "expiration": certificate.not_after().secs(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(body: &str) -> Fields {
        Fields::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn names_come_from_three_fields_and_nothing_else() {
        let all = r#"{"alt_names":"a.example, b.example","ip_sans":["10.0.0.1"],"uri_sans":"spiffe://td/a"}"#;
        let names = named(&parsed(all)).unwrap();
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "dns:a.example",
                "dns:b.example",
                "ip:10.0.0.1",
                "spiffe://td/a"
            ]
        );
        for (body, says) in [
            (r#"{"alt_names":"a@example"}"#, "alt_names: "),
            (r#"{"alt_names":"*.example"}"#, "alt_names: "),
            (r#"{"alt_names":"spiffe://td/a"}"#, "alt_names: such names"),
            (r#"{"ip_sans":"a.example"}"#, "ip_sans: "),
            (
                r#"{"uri_sans":"https://a.example"}"#,
                "uri_sans: such names",
            ),
            (r#"{"uri_sans":"dns:a.example"}"#, "uri_sans: such names"),
        ] {
            let error = named(&parsed(body)).unwrap_err().to_string();
            assert!(error.starts_with(says), "{body}: {error}");
        }
    }
}
