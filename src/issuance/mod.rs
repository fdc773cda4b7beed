//! The straight line from a grant to an issued certificate; the only door to a key of the HSM.
//!
//! [`Authorities::issue`] reads as the steps of the line. Each step consumes what the last one
//! made, and the types have private fields: nothing that is not recorded can be signed, and
//! nothing that is not concluded can be answered.

mod authorities;
mod authority;
mod ca;
mod ceremony;
mod certificate_status;
mod context;
mod epoch;
mod error;
mod issuer;
mod leaf;
mod metrics;
mod pipeline;
mod refresh;
mod signable;
mod status;
mod subordinate;

pub use authorities::Authorities;
pub use authority::{Authority, NoIssuer};
pub use ceremony::{
    Ceremony, CeremonyError, ImportReport, InitOptions, InitReport, RequestOptions, RequestReport,
};
pub use certificate_status::LedgerStatusSource;
pub use error::IssueError;
pub use issuer::Issuer;
pub use leaf::{IssuanceRequest, Issued, Naming};
pub use metrics::Metrics;
pub use pipeline::SigningPipeline;
pub use refresh::active_path;
pub use status::AuthorityStatus;
pub use subordinate::{NO_REMAINING_PATH_LEN, path_len_remedy};
