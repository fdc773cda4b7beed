//! From a request to an issued certificate. The HSM signs for no other module.
//!
//! [`Authorities::issue`] reads as the steps of a request. Each step consumes the result of the
//! previous one, and the types have private fields: nothing unrecorded can be signed, and nothing
//! without a recorded outcome can be returned.

mod admission;
mod authorities;
mod authority;
mod ca;
mod category;
mod ceremony;
mod certificate_status;
mod context;
mod epoch;
mod error;
mod issued;
mod issuer;
mod lease_time;
mod metrics;
mod own_key;
mod pipeline;
mod refresh;
mod request;
mod request_for_issuer;
mod requested_ca;
mod requested_certificate;
mod reserved;
mod shared_revision;
mod signable;
mod status;
mod subordinate;
mod work_leases;

pub use admission::{AdmissionConfig, Limited, RawAdmission, RawLimit, What, Whose};
pub use authorities::Authorities;
pub use authority::{Authority, NoIssuer};
pub use category::{Category, Class};
pub use ceremony::{
    Arrived, Ceremony, CeremonyError, ExistingKey, ImportReport, InitOptions, InitReport,
    RequestOptions, RequestReport, Successor, SuccessorOptions, UpstreamOptions, UpstreamOutcome,
    received, rotation_that_waits,
};
pub use certificate_status::LedgerStatusSource;
pub use error::IssueError;
pub use issued::Issued;
pub use issuer::{Issuer, shortest_ttl};
pub use metrics::Metrics;
pub use own_key::{OwnKeyError, OwnKeyRequest};
pub use pipeline::SigningPipeline;
pub use refresh::{active_path, active_row};
pub use request::{IssuanceRequest, Naming};
pub use status::AuthorityStatus;
pub use subordinate::{NO_REMAINING_PATH_LEN, path_len_remedy};
pub use work_leases::WorkLeases;
