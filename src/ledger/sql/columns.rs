//! Values as both stores represent them.

use std::fmt::Display;
use std::str::FromStr;

use super::row::{Row, RowSource, damaged};
use crate::clock::UnixTime;
use crate::ledger::{CallerMethod, Kind, LedgerError, State};
use crate::x509::SignatureAlgorithm;

pub(in crate::ledger) const fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::Leaf => 1,
        Kind::Ca => 2,
        Kind::Request => 3,
    }
}

pub(in crate::ledger) const fn method_code(method: CallerMethod) -> i64 {
    match method {
        CallerMethod::Jwt => 1,
        CallerMethod::Certificate => 2,
        CallerMethod::Operator => 3,
        CallerMethod::Local => 4,
        CallerMethod::TokenReview => 5,
        CallerMethod::ClusterKeys => 6,
        CallerMethod::Object => 7,
    }
}

/// The code in `conclusion.state`; a pending intent has no such row.
pub(in crate::ledger) const fn state_code(state: State) -> i64 {
    match state {
        State::Pending => 0,
        State::Issued => 1,
        State::Failed => 2,
        State::Unknown => 3,
    }
}

pub(in crate::ledger) const fn algorithm_code(algorithm: SignatureAlgorithm) -> i64 {
    match algorithm {
        SignatureAlgorithm::EcdsaSha256 => 1,
        SignatureAlgorithm::EcdsaSha384 => 2,
        SignatureAlgorithm::EcdsaSha512 => 3,
        SignatureAlgorithm::RsaSha256 => 4,
        SignatureAlgorithm::RsaSha384 => 5,
        SignatureAlgorithm::RsaSha512 => 6,
        SignatureAlgorithm::Ed25519 => 7,
        SignatureAlgorithm::RsaPssSha256 => 8,
        SignatureAlgorithm::RsaPssSha384 => 9,
        SignatureAlgorithm::RsaPssSha512 => 10,
    }
}

/// What a column is read as.
pub(in crate::ledger) trait FromColumn<'r>: Sized {
    fn from_column(row: &'r dyn RowSource, column: &str) -> Result<Self, LedgerError>;
}

macro_rules! from_column {
    ($type:ty, $row:ident, $column:ident, $read:expr) => {
        impl<'r> FromColumn<'r> for Option<$type> {
            fn from_column($row: &'r dyn RowSource, $column: &str) -> Result<Self, LedgerError> {
                $read
            }
        }
        impl<'r> FromColumn<'r> for $type {
            fn from_column(row: &'r dyn RowSource, column: &str) -> Result<Self, LedgerError> {
                Option::<$type>::from_column(row, column)?
                    .ok_or_else(|| damaged(column, "it is NULL"))
            }
        }
    };
}
from_column!(i64, row, column, row.int(column));
from_column!(u32, row, column, narrow(row, column));
from_column!(u8, row, column, narrow(row, column));
from_column!(
    bool,
    row,
    column,
    Ok(row.int(column)?.map(|value| value != 0))
);
from_column!(&'r str, row, column, row.text(column));
from_column!(
    String,
    row,
    column,
    Ok(row.text(column)?.map(str::to_owned))
);
from_column!(&'r [u8], row, column, row.bytes(column));
from_column!(
    Vec<u8>,
    row,
    column,
    Ok(row.bytes(column)?.map(<[u8]>::to_vec))
);

fn narrow<T: TryFrom<i64, Error: Display>>(
    row: &dyn RowSource,
    column: &str,
) -> Result<Option<T>, LedgerError> {
    let value = row.int(column)?;
    value
        .map(|value| T::try_from(value).map_err(|error| damaged(column, error)))
        .transpose()
}

/// A row's columns by name; an invalid value is [`LedgerError::Damaged`].
pub(in crate::ledger) struct Columns<'r>(pub(in crate::ledger) &'r dyn RowSource);

impl<'r> Columns<'r> {
    pub(in crate::ledger) fn of(row: &'r Row) -> Self {
        Self(row.as_ref())
    }

    pub(in crate::ledger) fn get<T: FromColumn<'r>>(&self, column: &str) -> Result<T, LedgerError> {
        T::from_column(self.0, column)
    }

    pub(in crate::ledger) fn number(&self, column: &str) -> Result<u64, LedgerError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| damaged(column, error))
    }

    pub(in crate::ledger) fn time(&self, column: &str) -> Result<UnixTime, LedgerError> {
        self.get(column).map(UnixTime::from_secs)
    }

    pub(in crate::ledger) fn optional_time(
        &self,
        column: &str,
    ) -> Result<Option<UnixTime>, LedgerError> {
        Ok(self.get::<Option<i64>>(column)?.map(UnixTime::from_secs))
    }

    /// Text that is parsed.
    pub(in crate::ledger) fn parsed<T: FromStr<Err: Display>>(
        &self,
        column: &str,
    ) -> Result<T, LedgerError> {
        self.get::<&str>(column)?
            .parse()
            .map_err(|error| damaged(column, error))
    }

    pub(in crate::ledger) fn hash(&self, column: &str) -> Result<[u8; 32], LedgerError> {
        self.get::<&[u8]>(column)?
            .try_into()
            .map_err(|error| damaged(column, error))
    }

    pub(in crate::ledger) fn optional_hash(
        &self,
        column: &str,
    ) -> Result<Option<[u8; 32]>, LedgerError> {
        self.get::<Option<&[u8]>>(column)?
            .map(|bytes| bytes.try_into().map_err(|error| damaged(column, error)))
            .transpose()
    }

    pub(in crate::ledger) fn kind(&self, column: &str) -> Result<Kind, LedgerError> {
        self.code(column, [Kind::Leaf, Kind::Ca, Kind::Request], kind_code)
    }

    pub(in crate::ledger) fn method(&self, column: &str) -> Result<CallerMethod, LedgerError> {
        use CallerMethod::{Certificate, ClusterKeys, Jwt, Local, Object, Operator, TokenReview};
        self.code(
            column,
            [
                Jwt,
                Certificate,
                Operator,
                Local,
                TokenReview,
                ClusterKeys,
                Object,
            ],
            method_code,
        )
    }

    /// Pending where there is no conclusion.
    pub(in crate::ledger) fn state(&self, column: &str) -> Result<State, LedgerError> {
        if self.get::<Option<i64>>(column)?.is_none() {
            return Ok(State::Pending);
        }
        self.code(
            column,
            [State::Issued, State::Failed, State::Unknown],
            state_code,
        )
    }

    pub(in crate::ledger) fn algorithm(
        &self,
        column: &str,
    ) -> Result<SignatureAlgorithm, LedgerError> {
        use SignatureAlgorithm as A;
        let all = [
            A::EcdsaSha256,
            A::EcdsaSha384,
            A::EcdsaSha512,
            A::RsaSha256,
            A::RsaSha384,
            A::RsaSha512,
            A::Ed25519,
            A::RsaPssSha256,
            A::RsaPssSha384,
            A::RsaPssSha512,
        ];
        self.code(column, all, algorithm_code)
    }

    fn code<T: Copy, const N: usize>(
        &self,
        column: &str,
        all: [T; N],
        code_of: fn(T) -> i64,
    ) -> Result<T, LedgerError> {
        let code: i64 = self.get(column)?;
        all.into_iter()
            .find(|value| code_of(*value) == code)
            .ok_or_else(|| damaged(column, format!("unknown code {code}")))
    }
}
