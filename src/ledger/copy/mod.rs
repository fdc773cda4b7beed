//! A ledger moves to another store: every row as it is, in both directions.
//!
//! The target bears a mark until the copy has ended and was compared, so that nothing starts on half a
//! ledger. Rows go over in the order of their keys: a copy that was interrupted goes on behind the last one.

mod compare;
mod end;
mod tables;

use std::sync::Arc;

use serde::Serialize;

use self::compare::Digest;
use self::end::{Begun, End};
use self::tables::{ALL, PAGE, Table};
use super::sql::{Row, Value};
use super::{HighWater, LedgerError, LedgerStore};
use crate::clock::{Clock, UnixTime};

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyStep {
    Copying,
    Comparing,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct CopyProgress {
    pub step: CopyStep,
    pub table: &'static str,
    pub rows: u64,
    pub of: u64,
}

/// A table that is the same in both stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopiedTable {
    pub table: &'static str,
    pub rows: u64,
    /// Of all values in the order of the key, lower hex.
    pub sha256: String,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// It went on with a copy that was interrupted.
    pub continued: bool,
    pub tables: Vec<CopiedTable>,
    pub reached: HighWater,
}

/// Copies a ledger that no server uses into a store that holds none. `mark` is what a server has last seen
/// of it.
///
/// # Errors
/// [`LedgerError::Refused`] for a source in use or behind the mark, a target that is not empty, and what
/// differs in the end; those of opening either.
pub async fn copy(
    from: &LedgerStore,
    to: &LedgerStore,
    mark: Option<&HighWater>,
    clock: Arc<dyn Clock>,
    mut progress: impl FnMut(CopyProgress) + Send,
) -> Result<CopyReport, LedgerError> {
    if from.name() == to.name() {
        return Err(LedgerError::Refused(
            "--from and --to are the same ledger: name another target".to_owned(),
        ));
    }
    let source = End::source(from, &clock).await?;
    let copied = async {
        require_copyable(&source, mark, clock.now()).await?;
        let target = End::target(to, &clock).await?;
        let copied = run(&source, &target, clock.as_ref(), &mut progress).await;
        target.close().await;
        copied
    };
    let copied = copied.await;
    source.close().await;
    copied
}

/// Nobody uses the source, and it is the newest.
async fn require_copyable(
    source: &End,
    mark: Option<&HighWater>,
    now: UnixTime,
) -> Result<(), LedgerError> {
    source.require_whole().await?;
    source.require_known_columns().await?;
    source.require_idle(now).await?;
    if let Some(mark) = mark
        && let Some(difference) = source.behind(mark).await?
    {
        return Err(LedgerError::Refused(format!(
            "{} is not the newest: {difference}, and this server's mark is at {mark}. Copy the newest one; if \
             there is none, start a server on this one with --accept-older-ledger first",
            source.name()
        )));
    }
    Ok(())
}

async fn run(
    source: &End,
    target: &End,
    clock: &dyn Clock,
    progress: &mut (impl FnMut(CopyProgress) + Send),
) -> Result<CopyReport, LedgerError> {
    let (from, to) = (source.name(), target.name());
    target.require_known_columns().await?;
    let reached = source.high_water().await?;
    let identity = source.identity().await?.ok_or_else(|| {
        LedgerError::Refused(format!("{from} has no key yet: there is nothing to copy"))
    })?;
    let begun = target.begin(&identity).await?;
    for table in ALL.iter() {
        carry(source, target, table, progress).await?;
    }
    target.finish(source.revision().await?).await?;
    let mut tables = Vec::new();
    for table in ALL.iter() {
        let there = digest(source, table, progress).await?;
        let here = digest(target, table, progress).await?;
        if here != there {
            return Err(LedgerError::Refused(format!(
                "the table {} of {from} has {} rows with the digest {}, that of {to} has {} rows with {}: the \
                 source was changed since the copy began, or the target was. Remove the target, and copy again",
                table.name, there.rows, there.sha256, here.rows, here.sha256
            )));
        }
        tables.push(here);
    }
    // Whatever was recorded meanwhile is missing in the copy.
    source.require_idle(clock.now()).await?;
    if source.high_water().await? != reached || target.behind(&reached).await?.is_some() {
        return Err(LedgerError::Refused(format!(
            "{from} was written to during the copy: stop its servers, remove the target, and copy again"
        )));
    }
    target.end().await?;
    Ok(CopyReport {
        continued: begun == Begun::Continued,
        tables,
        reached,
    })
}

/// Rows behind those that the target has.
async fn carry(
    source: &End,
    target: &End,
    table: &'static Table,
    progress: &mut (impl FnMut(CopyProgress) + Send),
) -> Result<(), LedgerError> {
    let of = source.count(table).await?;
    let mut rows = target.count(table).await?;
    let mut after = target.last(table).await?;
    loop {
        progress(CopyProgress {
            step: CopyStep::Copying,
            table: table.name,
            rows,
            of,
        });
        let page = source.page(table, after).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(table.key(last)?);
        let (length, values) = (page.len(), values(table, &page)?);
        drop(page);
        target.insert(table, values).await?;
        rows += u64::try_from(length).unwrap_or_default();
        if length < PAGE {
            return Ok(());
        }
    }
}

fn values(table: &Table, page: &[Row]) -> Result<Vec<Vec<Value<'static>>>, LedgerError> {
    page.iter().map(|row| table.values(row)).collect()
}

async fn digest(
    end: &End,
    table: &'static Table,
    progress: &mut (impl FnMut(CopyProgress) + Send),
) -> Result<CopiedTable, LedgerError> {
    let of = end.count(table).await?;
    let mut digest = Digest::default();
    let mut after = None;
    loop {
        progress(CopyProgress {
            step: CopyStep::Comparing,
            table: table.name,
            rows: digest.rows(),
            of,
        });
        let page = end.page(table, after).await?;
        for row in values(table, &page)? {
            digest.add(&row);
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(table.key(last)?),
            _ => break,
        }
    }
    let (rows, sha256) = digest.end();
    Ok(CopiedTable {
        table: table.name,
        rows,
        sha256,
    })
}
