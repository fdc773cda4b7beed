//! A program of the operator's: the CSR on its standard input, the certificates on its standard
//! output. It is run without a shell, with a bounded time, output and environment.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::UpstreamCa;
use super::answer::{Answer, Submission, Unreachable, one_line};
use super::raw::{RawUpstream, required};
use crate::config_issue::{ConfigIssue, ConfigIssues};
use crate::x509::MAX_FILE_BYTES;

/// The exit status of a program whose CA decides later (EX_TEMPFAIL of sysexits.h).
const PENDING: i32 = 75;
/// Of one whose CA does not answer (EX_UNAVAILABLE).
const UNREACHABLE: i32 = 69;
/// What is kept of what it says about a refusal, in bytes and in characters.
const MAX_SAID: u64 = 16 * 1024;
const SHOWN: usize = 1000;
const MAX_REFERENCE: usize = 512;
/// Set for every program, from this process.
const ALWAYS: [&str; 2] = ["HOME", "PATH"];

/// `kind = "command"` of `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandConfig {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<String>,
    timeout: Duration,
}

impl CommandConfig {
    pub(super) fn from_raw(raw: &mut RawUpstream, timeout: Duration) -> Result<Self, ConfigIssues> {
        let mut issues = ConfigIssues::default();
        let program = issues.collect(required(raw.program.take(), "program"));
        if let Some(program) = program.as_ref().filter(|program| !program.is_absolute()) {
            let problem = format_args!("{} is not an absolute path", program.display());
            issues.push(ConfigIssue::new("program", problem));
        }
        let environment = raw.environment.take().unwrap_or_default();
        for name in environment.iter().filter(|name| name.starts_with("LD_")) {
            let problem = format_args!("{name} would load code into the program");
            issues.push(ConfigIssue::new("environment", problem));
        }
        let arguments = raw.arguments.take().unwrap_or_default();
        issues.into_result(program.map(|program| Self {
            program,
            arguments,
            environment,
            timeout,
        }))
    }
}

/// The program as a CA.
#[derive(Debug)]
pub(super) struct CommandCa(CommandConfig);

impl CommandCa {
    pub(super) fn new(config: CommandConfig) -> Self {
        Self(config)
    }

    async fn run(
        &self,
        request: &Submission,
        reference: Option<&str>,
    ) -> Result<Answer, Unreachable> {
        let output = self.output(request, reference).await?;
        match output.status.code() {
            Some(0) => Ok(Answer::Issued(output.stdout)),
            Some(PENDING) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let given = text.lines().next().unwrap_or_default().trim();
                let given = match (given, reference) {
                    ("", Some(known)) => known,
                    (given, _) => given,
                };
                if given.is_empty()
                    || given.len() > MAX_REFERENCE
                    || given.contains(char::is_control)
                {
                    return Err(self.failed(
                        "ended with 75 (pending), and its first line is no reference of 1 to 512 \
                         characters",
                    ));
                }
                Ok(Answer::Pending {
                    reference: given.to_owned(),
                    retry_after: None,
                })
            }
            Some(status) => {
                let said = one_line(&String::from_utf8_lossy(&output.stderr), SHOWN);
                let said = match said.as_str() {
                    "" => "it said nothing on standard error",
                    said => said,
                };
                match status {
                    UNREACHABLE => Err(self.failed(&format!("did not reach its CA: {said}"))),
                    _ => Ok(Answer::Refused(format!("exit status {status}: {said}"))),
                }
            }
            // Somebody stopped it: that says nothing about the request.
            None => Err(self.failed(&format!("was stopped ({})", output.status))),
        }
    }

    async fn output(
        &self,
        request: &Submission,
        reference: Option<&str>,
    ) -> Result<Output, Unreachable> {
        let config = &self.0;
        let start = |error: io::Error| self.failed(&format!("cannot be run: {error}"));
        let inherited = config.environment.iter().map(String::as_str).chain(ALWAYS);
        let inherited = inherited.filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(&config.program);
        command
            .args(&config.arguments)
            .env_clear()
            .envs(inherited)
            .env("ROOTBRIDGE_TRUST_DOMAIN", request.trust_domain.as_str())
            .env("ROOTBRIDGE_REQUEST", &request.id)
            .env("ROOTBRIDGE_TTL_SECONDS", request.ttl.as_secs().to_string())
            .env("ROOTBRIDGE_PATH_LEN", request.path_len.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its children end with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(reference) = reference {
            command.env("ROOTBRIDGE_REFERENCE", reference);
        }
        let mut child = command.spawn().map_err(start)?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let csr = request.csr_pem();
        let ended = tokio::time::timeout(config.timeout, talk(&mut child, csr.as_bytes())).await;
        if let Some(group) = group {
            // What it has left running; often nothing.
            let _ = kill_process_group(group, Signal::KILL);
        }
        match ended {
            Ok(ended) => ended.map_err(start),
            Err(_) => {
                let after = config.timeout.as_secs();
                Err(self.failed(&format!("did not end within {after} s and was stopped")))
            }
        }
    }

    fn failed(&self, how: &str) -> Unreachable {
        Unreachable::new(format!("the program {} {how}", self.0.program.display()))
    }
}

impl UpstreamCa for CommandCa {
    fn submit<'a>(&'a self, request: &'a Submission) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.run(request, None).boxed()
    }

    fn poll<'a>(
        &'a self,
        request: &'a Submission,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        self.run(request, Some(reference)).boxed()
    }

    fn test(&self) -> BoxFuture<'_, Result<Vec<String>, Unreachable>> {
        async {
            use std::os::unix::fs::PermissionsExt as _;
            let program = &self.0.program;
            let found = tokio::fs::metadata(program).await;
            let found = found.map_err(|error| self.failed(&format!("cannot be found: {error}")))?;
            let mode = found.permissions().mode();
            if !found.is_file() || mode & 0o111 == 0 {
                return Err(self.failed("is no executable file"));
            }
            if mode & 0o002 != 0 {
                return Err(self.failed("may be changed by every user: chmod o-w"));
            }
            Ok(vec![format!(
                "{} is an executable file; whether its CA answers is only seen by a request",
                program.display()
            )])
        }
        .boxed()
    }
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn talk(child: &mut Child, csr: &[u8]) -> io::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read it may know what to ask.
            let _ = stdin.write_all(csr).await;
        }
        Ok(())
    };
    let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let (stdout, stderr, status, ()) = tokio::try_join!(
        read(stdout, most.saturating_add(1)),
        read(stderr, MAX_SAID),
        child.wait(),
        input
    )?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// The first bytes. The rest is read too, so that the program does not wait for a reader.
async fn read(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(most).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
