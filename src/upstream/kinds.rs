//! The kinds of upstream CAs.

use std::sync::Arc;
use std::time::Duration;

use super::UpstreamCa;
use super::adcs::{AdcsCa, AdcsConfig};
use super::aws_pca::{AwsPca, AwsPcaConfig};
use super::cert_manager::{CertManagerCa, CertManagerConfig};
use super::cfssl::{Cfssl, CfsslConfig};
use super::cmp::{CmpCa, CmpConfig};
use super::command::{CommandCa, CommandConfig};
use super::ejbca::{EjbcaCa, EjbcaConfig};
use super::est::{Est, EstConfig};
use super::offline::{Offline, OfflineConfig};
use super::raw::{RawKind, RawUpstream};
use super::step_ca::{StepCa, StepCaConfig};
use super::vault::{VaultCa, VaultConfig};
use crate::config_issue::ConfigIssues;

/// `KIND(SECTION => CA)`: each section checks itself with `from_raw`, and each CA is made of one by `new`.
macro_rules! kinds {
    ($($kind:ident($config:ty => $ca:ty),)+) => {
        /// What one kind of upstream CA needs.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) enum Kind {
            $($kind(Box<$config>),)+
        }

        impl Kind {
            pub(super) fn from_raw(
                raw: &mut RawUpstream,
                timeout: Duration,
            ) -> Result<Self, ConfigIssues> {
                match raw.kind {
                    $(RawKind::$kind => <$config>::from_raw(raw, timeout).map(|config| Self::$kind(Box::new(config))),)+
                }
            }

            pub(super) fn connect(&self) -> Arc<dyn UpstreamCa> {
                match self {
                    $(Self::$kind(config) => Arc::new(<$ca>::new(config.as_ref().clone())),)+
                }
            }
        }
    };
}

kinds! {
    Adcs(AdcsConfig => AdcsCa),
    AwsPca(AwsPcaConfig => AwsPca),
    CertManager(CertManagerConfig => CertManagerCa),
    Cmp(CmpConfig => CmpCa),
    Ejbca(EjbcaConfig => EjbcaCa),
    Command(CommandConfig => CommandCa),
    Vault(VaultConfig => VaultCa),
    StepCa(StepCaConfig => StepCa),
    Cfssl(CfsslConfig => Cfssl),
    Est(EstConfig => Est),
    Offline(OfflineConfig => Offline),
}
