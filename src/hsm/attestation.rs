//! What a token vouches for.

/// What the token reports of a private key. `None`: it does not report the attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// CKA_LOCAL: generated in the token.
    pub local: Option<bool>,
    /// CKA_ALWAYS_SENSITIVE: its value was never readable.
    pub always_sensitive: Option<bool>,
    /// CKA_NEVER_EXTRACTABLE: it could never leave the token, not even wrapped.
    pub never_extractable: Option<bool>,
    /// CKA_SENSITIVE.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE.
    pub extractable: Option<bool>,
    /// CKA_SIGN.
    pub sign: Option<bool>,
    /// CKA_ALWAYS_AUTHENTICATE: each signature needs a login of its own.
    pub always_authenticate: Option<bool>,
}

impl Attestation {
    /// The names of the attributes that the token does not vouch for: one that it does not report
    /// counts as false.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.local, "CKA_LOCAL"),
            (self.always_sensitive, "CKA_ALWAYS_SENSITIVE"),
            (self.never_extractable, "CKA_NEVER_EXTRACTABLE"),
        ]
        .into_iter()
        .filter(|(reported, _)| *reported != Some(true))
        .map(|(_, name)| name)
        .collect()
    }

    /// Every attribute by its name, as the token reports it.
    pub fn all(&self) -> [(&'static str, Option<bool>); 7] {
        [
            ("CKA_LOCAL", self.local),
            ("CKA_SENSITIVE", self.sensitive),
            ("CKA_ALWAYS_SENSITIVE", self.always_sensitive),
            ("CKA_EXTRACTABLE", self.extractable),
            ("CKA_NEVER_EXTRACTABLE", self.never_extractable),
            ("CKA_SIGN", self.sign),
            ("CKA_ALWAYS_AUTHENTICATE", self.always_authenticate),
        ]
    }

    /// Whether the token says that the value can be read or wrapped.
    pub(super) fn leaves_the_token(&self) -> bool {
        self.sensitive == Some(false) || self.extractable == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_is_not_reported_counts_as_false() {
        let yes = Some(true);
        let good = Attestation {
            local: yes,
            always_sensitive: yes,
            never_extractable: yes,
            ..Default::default()
        };
        assert!(good.missing().is_empty());
        assert_eq!(
            Attestation {
                local: None,
                ..good
            }
            .missing(),
            ["CKA_LOCAL"]
        );
        assert_eq!(
            Attestation {
                always_sensitive: Some(false),
                ..good
            }
            .missing(),
            ["CKA_ALWAYS_SENSITIVE"]
        );
        assert_eq!(Attestation::default().missing().len(), 3);
    }
}
