//! Roles: a client's role is accepted, and what it allows is the profile's, whatever it says.

use serde_json::{Value, json};

use super::api::VaultApi;
use super::config::Mount;
use super::envelope::Answer;
use super::error::VaultError;
use super::fields::Fields;
use crate::clock::in_words;
use crate::policy::Profile;
use crate::x509::ExtendedKeyUsage;

/// What a role may say without a warning, because it is so in any case or changes nothing here.
const WITHOUT_EFFECT: [&str; 14] = [
    "issuer_ref",
    "no_store",
    "no_store_metadata",
    "generate_lease",
    "require_cn",
    "allow_any_name",
    "allowed_uri_sans",
    "use_csr_common_name",
    "use_csr_sans",
    "key_type",
    "key_bits",
    "signature_bits",
    "client_flag",
    "server_flag",
];

impl VaultApi {
    pub(super) fn list_roles(&self, mount: &Mount) -> Result<Answer, VaultError> {
        let roles: Vec<&String> = mount.roles.keys().collect();
        match roles.is_empty() {
            // As Vault for an empty list.
            true => Err(VaultError::UnsupportedPath),
            false => Ok(Answer::data(json!({ "keys": roles }))),
        }
    }

    pub(super) fn role(&self, mount: &Mount, role: &str) -> Result<Answer, VaultError> {
        let profile = self.role_profile(mount, role)?;
        Ok(Answer::data(described(&profile)))
    }

    pub(super) fn write_role(
        &self,
        mount: &Mount,
        role: &str,
        fields: &Fields,
    ) -> Result<Answer, VaultError> {
        let profile = self.role_profile(mount, role)?;
        let mut warnings = vec![format!(
            "the role is not stored: the profile {} of this server and its policy decide what \
             sign/{role} issues, and to whom",
            profile.name()
        )];
        for name in ["max_ttl", "ttl"] {
            let asked = fields.duration(name)?;
            if asked.is_some_and(|asked| asked > profile.max_ttl()) {
                warnings.push(format!(
                    "{name} is more than the profile's max_ttl of {}: that is used",
                    in_words(profile.max_ttl())
                ));
            }
        }
        let known = |name: &&str| {
            WITHOUT_EFFECT.contains(name) || ["max_ttl", "ttl", "name"].contains(name)
        };
        let others: Vec<&str> = fields
            .names()
            .filter(|name| !known(name))
            .take(32)
            .collect();
        if !others.is_empty() {
            let others: Vec<String> = others
                .iter()
                .map(|name| name.escape_default().take(64).collect())
                .collect();
            warnings.push(format!("these are not taken: {}", others.join(", ")));
        }
        Ok(Answer::Data {
            data: described(&profile),
            warnings,
        })
    }

    pub(super) fn role_profile(
        &self,
        mount: &Mount,
        role: &str,
    ) -> Result<std::sync::Arc<Profile>, VaultError> {
        let name = mount.profile(role);
        let profile = self.authorities.profile(name);
        // A reload can take away a profile that the start found.
        profile.ok_or_else(|| {
            VaultError::invalid(format!(
                "the profile of {}'s role {role} is gone",
                mount.name
            ))
        })
    }
}

/// What a role may allow in Vault, and none here does.
const NOT_ALLOWED: [&str; 11] = [
    "allow_any_name",
    "allow_bare_domains",
    "allow_glob_domains",
    "allow_localhost",
    "allow_subdomains",
    "allow_token_displayname",
    "allow_wildcard_certificates",
    "allowed_domains_template",
    "allowed_uri_sans_template",
    "code_signing_flag",
    "email_protection_flag",
];
const EMPTY: [&str; 13] = [
    "allowed_domains",
    "allowed_other_sans",
    "allowed_serial_numbers",
    "allowed_user_ids",
    "country",
    "ext_key_usage",
    "ext_key_usage_oids",
    "locality",
    "organization",
    "ou",
    "policy_identifiers",
    "postal_code",
    "street_address",
];

/// A profile in the words of a role.
fn described(profile: &Profile) -> Value {
    let usage = profile.usage();
    let mut role = json!({
        "allow_ip_sans": true,
        "allowed_uri_sans": ["*"],
        "basic_constraints_valid_for_non_ca": true,
        "client_flag": usage.contains(ExtendedKeyUsage::CLIENT_AUTH),
        "cn_validations": ["disabled"],
        "enforce_hostnames": true,
        "generate_lease": false,
        "issuer_ref": "default",
        "key_bits": 0,
        "key_type": "any",
        "key_usage": ["DigitalSignature"],
        "max_ttl": profile.max_ttl().as_secs(),
        "no_store": false,
        "not_after": "",
        "not_before_duration": profile.backdate().as_secs(),
        "province": [],
        "require_cn": false,
        "server_flag": usage.contains(ExtendedKeyUsage::SERVER_AUTH),
        "signature_bits": 0,
        "ttl": profile.default_ttl().as_secs(),
        "use_csr_common_name": false,
        "use_csr_sans": true,
        "use_pss": false,
    });
    if let Some(role) = role.as_object_mut() {
        role.extend(NOT_ALLOWED.map(|name| (name.to_owned(), Value::Bool(false))));
        role.extend(EMPTY.map(|name| (name.to_owned(), json!([]))));
    }
    role
}
