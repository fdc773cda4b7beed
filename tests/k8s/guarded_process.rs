//! A child process that does not outlive this one, however this one ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waits for the end of its standard input, which only this process holds open, then ends the
/// child and clears its directory away. A signal on the parent's death would follow the thread
/// that started the child, and tests are threads that end.
pub(crate) const GUARD: &str = r#"
log=$1; remove=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 &
child=$!
trap '' INT TERM HUP
echo $child
read -r _
kill -KILL $child 2>/dev/null
wait $child 2>/dev/null
[ -z "$remove" ] || rm -rf -- "$remove"
"#;

/// A running child; killed when dropped, or when this process dies.
pub(crate) struct GuardedProcess {
    guard: Child,
    child: Pid,
    log: PathBuf,
}

impl GuardedProcess {
    /// Starts a program with its output in `log`; `remove` is cleared away when it has ended.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        log: &Path,
        remove: Option<&Path>,
    ) -> Self {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(log)
            .arg(remove.unwrap_or(Path::new("")))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a terminal sends to the tests is not for the guard.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            guard,
            child: Pid::from_raw(line.trim().parse().unwrap()),
            log: log.to_owned(),
        }
    }

    pub(crate) fn id(&self) -> Pid {
        self.child
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child, signal).unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&self) -> bool {
        !runs(self.child)
    }

    /// Everything that it printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// Whether a process is there and no zombie.
pub(crate) fn runs(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
