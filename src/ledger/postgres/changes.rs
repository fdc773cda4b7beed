//! Hears of changed records as they are committed. What is not heard is found by a poll: a notification is
//! never needed, it saves the wait.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Socket};

use super::pooled::is_pooled;
use super::settings::PostgresConfig;
use super::tls::MakeTls;
use crate::ledger::{LedgerError, Wakeup};

/// What the schema's trigger notifies.
const LISTEN: &str = "LISTEN rootbridge_changed";
/// The interval of polls while nothing would be heard.
const POLL: Duration = Duration::from_millis(100);
/// While notifications are heard. A path that is cut without a sign delays a change by this.
const POLL_LISTENING: Duration = Duration::from_millis(500);
/// How often the connection is looked after.
const CHECK: Duration = Duration::from_secs(5);
/// The longest that opening one, or an answer, takes.
const ANSWER: Duration = Duration::from_secs(20);
/// The pause before another connection.
const RETRY: Duration = Duration::from_secs(2);
/// The same behind a pooler, which is there for longer.
const RETRY_POOLED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Changes {
    heard: Notify,
    is_listening: AtomicBool,
}

/// Why nothing is heard.
enum Unheard {
    /// It passes no notifications on, and would keep what one client listens to.
    Pooled,
    Failed(LedgerError),
}

impl From<LedgerError> for Unheard {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for Unheard {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Changes {
    /// Until something was heard, or a poll is due.
    pub(super) async fn wait(&self) -> Wakeup {
        let pause = match self.is_listening.load(Ordering::Relaxed) {
            true => POLL_LISTENING,
            false => POLL,
        };
        match timeout(pause, self.heard.notified()).await {
            Ok(()) => Wakeup::Told,
            Err(_) => Wakeup::Due,
        }
    }

    /// Listens for as long as the ledger is open.
    pub(super) async fn listen(self: Arc<Self>, settings: Arc<PostgresConfig>) {
        let mut known = false;
        loop {
            let reason = self.hear(&settings).await;
            self.is_listening.store(false, Ordering::Relaxed);
            match reason {
                Unheard::Pooled => {
                    if !known {
                        known = true;
                        tracing::info!(
                            "the database is behind a pooler, which passes no notifications on: records are \
                             polled instead"
                        );
                    }
                    sleep(RETRY_POOLED).await;
                }
                Unheard::Failed(error) => {
                    tracing::debug!(%error, "changes of records are not heard of, they are polled instead");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn hear(&self, settings: &PostgresConfig) -> Unheard {
        let heard = async {
            match settings.tls() {
                Some(files) => self.hear_over(settings, MakeTls::new(files)?).await,
                None => self.hear_over(settings, NoTls).await,
            }
        };
        match heard.await {
            Ok(()) => Unheard::Failed(LedgerError::unavailable("the connection has ended")),
            Err(reason) => reason,
        }
    }

    async fn hear_over<T>(&self, settings: &PostgresConfig, tls: T) -> Result<(), Unheard>
    where
        T: MakeTlsConnect<Socket>,
    {
        let connected = timeout(ANSWER, settings.connection()?.connect(tls)).await;
        let (client, connection) = connected.map_err(|_| late())??;
        tokio::select! {
            ended = self.receive(connection) => ended,
            failed = self.keep(&client) => failed,
        }
    }

    /// Drives the connection.
    async fn receive<T>(&self, mut connection: Connection<Socket, T>) -> Result<(), Unheard>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message? {
                self.heard.notify_one();
            }
        }
        Ok(())
    }

    /// Makes it listen, and sees that it does.
    async fn keep(&self, client: &Client) -> Result<(), Unheard> {
        if timeout(ANSWER, is_pooled(client))
            .await
            .map_err(|_| late())??
        {
            return Err(Unheard::Pooled);
        }
        let listening = timeout(ANSWER, client.batch_execute(LISTEN)).await;
        listening.map_err(|_| late())??;
        self.is_listening.store(true, Ordering::Relaxed);
        // Something may have changed before.
        self.heard.notify_one();
        loop {
            sleep(CHECK).await;
            let asked = client.query_typed("SELECT pg_listening_channels()", &[]);
            let channels = timeout(ANSWER, asked).await.map_err(|_| late())??;
            if channels.is_empty() {
                return Err(LedgerError::unavailable("the connection does not listen").into());
            }
        }
    }
}

fn late() -> LedgerError {
    LedgerError::unavailable(format!("the database has not answered within {ANSWER:?}"))
}
