//! Generates a key pair: sensitive, not extractable, for signing only.
//!
//! What protects the key is in every template. What only restricts its use further is left out where
//! a token refuses it: each vendor accepts other attributes. What the token then reports of the key
//! decides, not what the template asked for.

use aws_lc_rs::rand;
use cryptoki::error::RvError;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::attributes::bytes;
use super::error::HsmError;
use super::fault::Fault;
use super::keys::{KEPT_OCTETS, attestation};
use super::mechanism;
use super::public_key;
use super::token_inner::TokenInner;
use crate::digest::hex;
use crate::x509::{KeyKind, PublicKey};

/// A key pair that the token has generated.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// CKA_ID as the token has it: some cut it to two octets.
    pub id: Vec<u8>,
    pub public_key: PublicKey,
}

/// Attributes that a template has beyond those that protect the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Optional {
    /// CKA_PRIVATE = false of the public key. AWS CloudHSM has private public keys only.
    public_is_public: bool,
    /// CKA_DECRYPT, CKA_UNWRAP, CKA_DERIVE and CKA_SIGN_RECOVER = false of the private key.
    no_other_use: bool,
    /// CKA_PRIVATE = true of the private key, which tokens set by themselves.
    private_is_private: bool,
    /// What mechanism and use imply: CKA_CLASS, CKA_KEY_TYPE, and CKA_VERIFY = true of the public key.
    /// A TPM that is to refuse decryption does not take the last one.
    implied: bool,
}

/// From what a token should accept to what it has to. The first that it does not refuse counts.
const TEMPLATES: [Optional; 6] = {
    let all = Optional {
        public_is_public: true,
        no_other_use: true,
        private_is_private: true,
        implied: false,
    };
    let no_public = Optional {
        public_is_public: false,
        ..all
    };
    let no_use = Optional {
        no_other_use: false,
        ..all
    };
    let neither = Optional {
        public_is_public: false,
        ..no_use
    };
    let least = Optional {
        private_is_private: false,
        ..neither
    };
    let implied = Optional {
        implied: true,
        ..neither
    };
    [all, no_public, no_use, neither, least, implied]
};

impl Optional {
    /// The attributes that it leaves out of the first template, for a message.
    fn left_out(self) -> String {
        let names = [
            (self.public_is_public, "CKA_PRIVATE=false (public key)"),
            (
                self.no_other_use,
                "CKA_DECRYPT, CKA_UNWRAP, CKA_DERIVE and CKA_SIGN_RECOVER=false",
            ),
            (self.private_is_private, "CKA_PRIVATE=true (private key)"),
        ];
        let absent = names.into_iter().filter(|(given, _)| !given);
        let absent: Vec<_> = absent.map(|(_, name)| name).collect();
        absent.join(", ")
    }
}

/// What a pair is generated from.
struct Template<'a> {
    kind: KeyKind,
    label: &'a str,
    id: &'a [u8],
    of_kind: &'a [Attribute],
}

impl Template<'_> {
    fn common(&self, class: ObjectClass, optional: Optional) -> Vec<Attribute> {
        let mut common = vec![
            Attribute::Token(true),
            Attribute::Label(self.label.as_bytes().to_vec()),
            Attribute::Id(self.id.to_vec()),
        ];
        if optional.implied {
            let key_type = match self.kind {
                KeyKind::Rsa { .. } => KeyType::RSA,
                _ => KeyType::EC,
            };
            common.extend([Attribute::Class(class), Attribute::KeyType(key_type)]);
        }
        common
    }

    fn public(&self, optional: Optional) -> Vec<Attribute> {
        let mut public = self.common(ObjectClass::PUBLIC_KEY, optional);
        if optional.public_is_public {
            public.push(Attribute::Private(false));
        }
        if optional.implied {
            public.push(Attribute::Verify(true));
        }
        public.extend_from_slice(self.of_kind);
        public
    }

    fn private(&self, optional: Optional) -> Vec<Attribute> {
        let mut private = self.common(ObjectClass::PRIVATE_KEY, optional);
        private.extend([
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        if optional.private_is_private {
            private.push(Attribute::Private(true));
        }
        if optional.no_other_use {
            // Tokens allow these by default.
            private.extend([
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
                Attribute::Derive(false),
            ]);
            if matches!(self.kind, KeyKind::Rsa { .. }) {
                private.push(Attribute::SignRecover(false));
            }
        }
        private
    }
}

/// Generates a key pair. Without `id` it gets a random CKA_ID that no other key has, not even cut to
/// two octets. After an error the token has no new key.
pub(super) fn generate(
    inner: &TokenInner,
    session: &Session,
    kind: KeyKind,
    label: &str,
    id: Option<&[u8]>,
) -> Result<NewKey, HsmError> {
    let call = |fault| inner.call_error(fault);
    let (mechanism, of_kind) =
        mechanism::generation(kind).ok_or(HsmError::UnsupportedKey { kind })?;
    let id = match id {
        Some(id) => {
            let same_id = session.find_objects(&[Attribute::Id(id.to_vec())]);
            if !same_id.map_err(|error| call(error.into()))?.is_empty() {
                return Err(HsmError::KeyExists {
                    token: inner.name.clone(),
                    id: hex(id),
                });
            }
            id.to_vec()
        }
        None => new_id(session).map_err(call)?,
    };
    let template = Template {
        kind,
        label,
        id: &id,
        of_kind: &of_kind,
    };
    let mut refused = None;
    for optional in TEMPLATES {
        let (public, private) = (template.public(optional), template.private(optional));
        match session.generate_key_pair(&mechanism, &public, &private) {
            Ok((public, private)) => {
                if refused.is_some() {
                    tracing::info!(
                        token = inner.name,
                        left_out = optional.left_out(),
                        "the token generates a key without these attributes"
                    );
                }
                return checked(inner, session, &id, (public, private)).inspect_err(|_| {
                    for object in [public, private] {
                        if let Err(error) = session.destroy_object(object) {
                            let error = Fault::from(error);
                            tracing::warn!(token = inner.name, %error, "an unusable new key is left over");
                        }
                    }
                });
            }
            Err(error) => {
                let fault = Fault::from(error);
                if !concerns_template(fault.code()) {
                    return Err(call(fault));
                }
                // The first one: later templates may be refused for what they lack.
                refused.get_or_insert(fault);
            }
        }
    }
    Err(HsmError::KeyTemplate {
        token: inner.name.clone(),
        kind,
        fault: refused.unwrap_or_else(|| Fault::other("C_GenerateKeyPair", "no template")),
    })
}

/// Whether another template may be accepted.
fn concerns_template(code: Option<RvError>) -> bool {
    matches!(
        code,
        Some(
            RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::AttributeReadOnly
                | RvError::TemplateInconsistent
                | RvError::TemplateIncomplete
                // tpm2-pkcs11 says no more when the TPM gives an attribute another value.
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::ArgumentsBad
        )
    )
}

/// The new key as the token reports it.
fn checked(
    inner: &TokenInner,
    session: &Session,
    given_id: &[u8],
    (public, private): (ObjectHandle, ObjectHandle),
) -> Result<NewKey, HsmError> {
    let call = |fault| inner.call_error(fault);
    let id = bytes(session, private, AttributeType::Id).map_err(call)?;
    let id = id.unwrap_or_default();
    if id != given_id {
        tracing::info!(
            token = inner.name,
            given = hex(given_id),
            kept = hex(&id),
            "the token changed the key's CKA_ID"
        );
    }
    let attestation = attestation(session, private).map_err(call)?;
    if attestation.leaves_the_token() {
        return Err(HsmError::ExtractableKey {
            token: inner.name.clone(),
        });
    }
    let missing = attestation.missing();
    if !missing.is_empty() {
        tracing::warn!(
            token = inner.name,
            key = hex(&id),
            missing = missing.join(", "),
            "the token does not vouch for the key that it generated"
        );
    }
    let shown = match public_key::of_object(session, public).map_err(call)? {
        None => public_key::of_object(session, private).map_err(call)?,
        shown => shown,
    };
    let public_key = shown.unwrap_or_else(|| Err("its attributes show none".to_owned()));
    match public_key {
        Ok(public_key) => Ok(NewKey { id, public_key }),
        Err(reason) => Err(HsmError::NoPublicKey {
            token: inner.name.clone(),
            id: hex(&id),
            reason,
        }),
    }
}

/// A random CKA_ID whose first two octets no other key begins with: some tokens keep no more of it.
pub(super) fn new_id(session: &Session) -> Result<Vec<u8>, Fault> {
    let mut used = Vec::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in session.find_objects(&[Attribute::Class(class)])? {
            used.extend(bytes(session, object, AttributeType::Id)?);
        }
    }
    let start = |id: &[u8]| id.iter().take(KEPT_OCTETS).copied().collect::<Vec<u8>>();
    let used: Vec<Vec<u8>> = used.iter().map(|id| start(id)).collect();
    // Enough attempts for a token with tens of thousands of keys.
    for _ in 0..64 {
        let mut id = [0u8; 20];
        rand::fill(&mut id).map_err(|_| Fault::other("CKA_ID", "no random numbers"))?;
        // Neither zero nor negative as a number, which is how some tokens keep it.
        if let Some(first) = id.first_mut() {
            *first = (*first & 0x7f).max(1);
        }
        if !used.contains(&start(&id)) {
            return Ok(id.to_vec());
        }
    }
    Err(Fault::other(
        "CKA_ID",
        "no two octets are left that no CKA_ID begins with",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_protects_the_key() {
        for kind in [KeyKind::EcdsaP256, KeyKind::Rsa { bits: 2048 }] {
            let template = Template {
                kind,
                label: "l",
                id: &[1],
                of_kind: &[],
            };
            for optional in TEMPLATES {
                let private = template.private(optional);
                for attribute in [
                    Attribute::Token(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::Sign(true),
                ] {
                    assert!(private.contains(&attribute), "{optional:?}: {attribute:?}");
                }
            }
        }
        let left_out: Vec<String> = TEMPLATES.map(Optional::left_out).into();
        assert_eq!(left_out.first().map(String::as_str), Some(""));
        assert_eq!(
            left_out.get(1).map(String::as_str),
            Some("CKA_PRIVATE=false (public key)")
        );
    }
}
