//! Intermediate CAs. A mount's own intermediate is the issuing CA, whose key and certificate are there:
//! a client that has one made again, as Consul does at each election of a leader, gets the same. Other keys are
//! certified below it, under the mount's `ca_profile`.

use serde_json::json;
use tokio::time::Instant;

use super::api::{Call, Holder, VaultApi, whole_path};
use super::ca::{key_id, not_initialised};
use super::config::Mount;
use super::envelope::Answer;
use super::error::VaultError;
use super::fields::Fields;
use super::sign::{Kind, PATIENCE, Wanted, csr, issued_data, lifetime, named, signed};
use crate::issuance::{NO_REMAINING_PATH_LEN, path_len_remedy};
use crate::x509::{Csr, San, SpiffeId, parse_pem_chain};

/// The largest `certificate` of `set-signed`, in bytes.
const MAX_CHAIN_BYTES: usize = 128 * 1024;

impl VaultApi {
    /// `intermediate/generate/…`: a request for the issuing key.
    pub(super) async fn generate_intermediate(
        &self,
        mount: &Mount,
        holder: &Holder,
        call: &Call<'_>,
    ) -> Result<Answer, VaultError> {
        let issuer = self.issuer(mount).ok_or_else(|| not_initialised(mount))?;
        let caller = holder.requester();
        let requests = &self.state.requests;
        let pem = requests
            .get(&self.authorities, &issuer, &caller, call.id)
            .await?;
        Ok(Answer::Data {
            data: json!({ "csr": pem.trim_end(), "key_id": key_id(issuer.certificate()) }),
            warnings: vec![
                "no key is made: the request is for this mount's issuing key in the HSM".to_owned(),
            ],
        })
    }

    /// `root/sign-intermediate`.
    pub(super) async fn sign_intermediate(
        &self,
        mount: &Mount,
        holder: &Holder,
        fields: &Fields,
        call: &Call<'_>,
    ) -> Result<Answer, VaultError> {
        let issuer = self.issuer(mount).ok_or_else(|| not_initialised(mount))?;
        let csr = csr(fields)?;
        let csr = Csr::ca_from_pem(csr.as_bytes())?;
        if csr.public_key().spki_der() == issuer.certificate().public_key().spki_der() {
            let path = whole_path(&issuer);
            let (own, above) = path.split_first().ok_or_else(|| not_initialised(mount))?;
            // A root that is also the issuing CA has nothing above it.
            let above = if above.is_empty() { &path } else { above };
            return Ok(Answer::Data {
                data: signed(own, above, fields)?,
                warnings: vec![
                    "the issuing CA has its certificate already: this is it, whatever was asked for"
                        .to_owned(),
                ],
            });
        }
        let profile = mount.ca_profile.as_deref();
        let profile = profile.and_then(|name| self.authorities.profile(name));
        let Some(profile) = profile else {
            return Err(VaultError::invalid(format!(
                "this mount certifies no other CA: have this server's operator write `ca_profile` in \
                 [vault.mount.{}], a profile with `ca = true`, and a rule of [policy] for its callers",
                mount.name
            )));
        };
        if issuer.remaining_path_len() == Some(0) {
            let remedy = path_len_remedy(&mount.authority);
            return Err(VaultError::invalid(format!(
                "{NO_REMAINING_PATH_LEN}: {remedy}"
            )));
        }
        let mut warnings = Vec::new();
        let path_len = profile.ca_path_len().unwrap_or_default();
        let most = issuer
            .remaining_path_len()
            .map_or(path_len, |most| path_len.min(most - 1));
        if let Some(asked) = fields.number("max_path_length")?
            && asked != i64::from(most)
        {
            warnings.push(format!(
                "max_path_length is {most}, as the profile has it, not {asked}"
            ));
        }
        let wanted = Wanted {
            names: ca_names(fields, &csr, mount)?,
            csr,
            profile: profile.name().to_owned(),
            ttl: lifetime(fields, &profile, &mut warnings)?,
        };
        for name in [
            "common_name",
            "organization",
            "ou",
            "country",
            "permitted_dns_domains",
        ] {
            if fields.has(name) {
                warnings.push(format!("{name} is not taken: the subject is made here"));
            }
        }
        let issued = self
            .issue(
                Kind::Ca,
                holder.requester(),
                wanted,
                Instant::now() + PATIENCE,
                call,
            )
            .await?;
        Ok(Answer::Data {
            data: issued_data(&issued, fields)?,
            warnings,
        })
    }

    /// `intermediate/set-signed`: the issuing CA's own certificate, which is set already.
    pub(super) fn set_signed(&self, mount: &Mount, fields: &Fields) -> Result<Answer, VaultError> {
        let issuer = self.issuer(mount).ok_or_else(|| not_initialised(mount))?;
        let text = fields.text("certificate")?;
        if text.len() > MAX_CHAIN_BYTES {
            return Err(VaultError::invalid(format!(
                "certificate: more than {MAX_CHAIN_BYTES} bytes"
            )));
        }
        let chain = parse_pem_chain(text.as_bytes())
            .map_err(|error| VaultError::invalid(format!("certificate: {error}")))?;
        match chain
            .iter()
            .any(|each| each.der() == issuer.certificate().der())
        {
            true => Ok(Answer::Nothing),
            false => Err(VaultError::invalid(format!(
                "this is not the certificate of the mount's issuing CA: have this server's operator \
                 import it with `rootbridge ca import --trust-domain {}`",
                mount.authority
            ))),
        }
    }
}

/// The names of a CA: those of the CSR or the fields, or else its trust domain.
fn ca_names(fields: &Fields, csr: &Csr, mount: &Mount) -> Result<Vec<San>, VaultError> {
    let mut names = named(fields)?;
    if names.iter().all(|name| csr.names().contains(name)) && !csr.names().is_empty() {
        return Ok(csr.names().to_vec());
    }
    if names.is_empty() {
        let id = SpiffeId::parse(&format!("spiffe://{}", mount.authority));
        names.extend(id.map(San::Spiffe));
    }
    Ok(names)
}
