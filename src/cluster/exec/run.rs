//! One run of a program: no shell, no terminal, a bounded output, a bounded time.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::error::{ExecError, Said};
use super::plugin::Plugin;

/// A certificate chain with its key, and room.
const MAX_OUTPUT: u64 = 256 * 1024;
/// What is kept of what it says about an error.
const MAX_SAID: u64 = 16 * 1024;

/// The program's standard output, once it has ended without an error.
pub(super) async fn run(plugin: &Plugin) -> Result<Zeroizing<Vec<u8>>, ExecError> {
    let program = &plugin.program;
    let start = |why: io::Error| ExecError::Start {
        program: program.clone(),
        why,
        hint: plugin.hint(),
    };
    let found = tokio::fs::metadata(program).await.map_err(start)?;
    if found.permissions().mode() & 0o002 != 0 {
        return Err(ExecError::Writable(program.clone()));
    }
    let inherited = plugin.inherited.iter();
    let inherited = inherited.filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(&plugin.arguments)
        .env_clear()
        .envs(inherited)
        .envs(plugin.variables.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", &plugin.info)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its children end with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let ended = tokio::time::timeout(plugin.timeout, end(&mut child)).await;
    if !matches!(&ended, Ok(Ok((status, ..))) if status.success())
        && let Some(group) = group
    {
        // It may have ended by itself since.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let (status, output, said) = match ended {
        Ok(Ok(ended)) => ended,
        Ok(Err(why)) => return Err(start(why)),
        Err(_) => {
            return Err(ExecError::Timeout {
                program: program.clone(),
                after: plugin.timeout,
            });
        }
    };
    if !status.success() {
        return Err(ExecError::Failed {
            program: program.clone(),
            status: status.to_string(),
            said: Said::new(&said),
            hint: plugin.hint(),
        });
    }
    if output.len() as u64 > MAX_OUTPUT {
        let why = "it is longer than 256 KiB";
        return Err(ExecError::Output {
            program: program.clone(),
            why,
        });
    }
    Ok(output)
}

type Ended = (std::process::ExitStatus, Zeroizing<Vec<u8>>, Vec<u8>);

async fn end(child: &mut Child) -> io::Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async { read(stdout, MAX_OUTPUT + 1).await.map(Zeroizing::new) };
    let (output, said, status) = tokio::try_join!(output, read(stderr, MAX_SAID), child.wait())?;
    Ok((status, output, said))
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
