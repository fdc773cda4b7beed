//! What a slot's token can do, by what it says of itself: nothing in it is used or changed.

use cryptoki::mechanism::MechanismType;
use cryptoki::slot::{Limit, Slot};

use super::fault::Fault;
use super::mechanism::HashedInToken;
use super::module::Module;
use crate::x509::KeyKind;

/// The mechanisms that this program may use, by their names in PKCS#11.
const MECHANISMS: [(&str, MechanismType); 7] = [
    ("CKM_EC_KEY_PAIR_GEN", MechanismType::ECC_KEY_PAIR_GEN),
    ("CKM_ECDSA", MechanismType::ECDSA),
    ("CKM_ECDSA_SHA256", MechanismType::ECDSA_SHA256),
    ("CKM_ECDSA_SHA384", MechanismType::ECDSA_SHA384),
    (
        "CKM_RSA_PKCS_KEY_PAIR_GEN",
        MechanismType::RSA_PKCS_KEY_PAIR_GEN,
    ),
    ("CKM_RSA_PKCS", MechanismType::RSA_PKCS),
    ("CKM_SHA256_RSA_PKCS", MechanismType::SHA256_RSA_PKCS),
];

/// Kinds of keys in tokens, with their sizes in bits.
const KINDS: [(KeyKind, usize); 5] = [
    (KeyKind::EcdsaP256, 256),
    (KeyKind::EcdsaP384, 384),
    (KeyKind::Rsa { bits: 2048 }, 2048),
    (KeyKind::Rsa { bits: 3072 }, 3072),
    (KeyKind::Rsa { bits: 4096 }, 4096),
];

/// What the token in a slot can do.
#[derive(Clone, Debug, Default)]
pub struct Abilities {
    pub sessions: SessionLimits,
    /// Octets of a PIN, from and to.
    pub pin_length: (usize, usize),
    /// CKF_WRITE_PROTECTED.
    pub write_protected: bool,
    /// CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is entered at the HSM.
    pub pin_pad: bool,
    pub mechanisms: Vec<MechanismReport>,
}

/// `None`: the token does not say, or has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// ulMaxSessionCount.
    pub most: Option<u64>,
    /// ulSessionCount, of all processes or of this one, as the vendor understands it.
    pub open: Option<u64>,
}

/// One of the mechanisms that this program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MechanismReport {
    /// In PKCS#11, as in `CKM_ECDSA`.
    pub name: &'static str,
    /// In the unit that PKCS#11 has for the mechanism: bits for these.
    pub key_sizes: (usize, usize),
    pub signs: bool,
    pub generates: bool,
    /// CKF_HW.
    pub in_hardware: bool,
    kind: MechanismType,
}

/// How keys of a kind are generated and used. `None`: the token offers no mechanism for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub kind: KeyKind,
    /// The mechanism of C_GenerateKeyPair.
    pub generates_with: Option<&'static str>,
    /// The mechanism of C_SignInit that is tried first.
    pub signs_with: Option<&'static str>,
}

impl Abilities {
    /// For the token in `slot`. The caller holds a guard or a session of the module.
    pub(super) fn read(module: &Module, slot: u64) -> Result<Self, Fault> {
        let (context, slot) = (module.context()?, Slot::try_from(slot)?);
        let info = context.get_token_info(slot)?;
        let limit = |limit| match limit {
            Limit::Max(most) => Some(most),
            Limit::Unavailable | Limit::Infinite => None,
        };
        let report = |(name, kind): (&'static str, MechanismType)| {
            let info = context.get_mechanism_info(slot, kind).ok()?;
            Some(MechanismReport {
                name,
                key_sizes: (info.min_key_size(), info.max_key_size()),
                signs: info.sign(),
                generates: info.generate_key_pair(),
                in_hardware: info.hardware(),
                kind,
            })
        };
        Ok(Self {
            sessions: SessionLimits {
                most: limit(info.max_session_count()),
                open: info.session_count(),
            },
            pin_length: (info.min_pin_length(), info.max_pin_length()),
            write_protected: info.write_protected(),
            pin_pad: info.protected_authentication_path(),
            mechanisms: MECHANISMS.into_iter().filter_map(report).collect(),
        })
    }

    /// What this program would do with keys of each kind that it can have in a token.
    pub fn uses(&self) -> Vec<Use> {
        let signs = |kind| self.find(kind).is_some_and(|mechanism| mechanism.signs);
        let hashed = HashedInToken::choose(signs);
        KINDS
            .into_iter()
            .map(|(kind, bits)| {
                let offered = |wanted, is_for: fn(&MechanismReport) -> bool| {
                    let found = self.find(wanted)?;
                    let (least, most) = found.key_sizes;
                    let fits = bits >= least && (bits <= most || most == 0);
                    (is_for(found) && fits).then_some(found.name)
                };
                let (generation, signing) = hashed.mechanisms(kind);
                Use {
                    kind,
                    generates_with: generation.and_then(|kind| offered(kind, |it| it.generates)),
                    signs_with: signing.and_then(|kind| offered(kind, |it| it.signs)),
                }
            })
            .collect()
    }

    fn find(&self, kind: MechanismType) -> Option<&MechanismReport> {
        self.mechanisms.iter().find(|found| found.kind == kind)
    }
}
