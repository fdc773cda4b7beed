//! A ledger that root makes in the service's directory is the service's: `ca init` as root, then `serve` as
//! the service's user. And where access is denied, the message says who owns what, and who asks.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rootbridge_test_support::{TD, TestServer};

/// A user that owns nothing else.
const USER: u32 = 54_321;

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// Root gives files to another user here, as the operator does.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_uses_what_root_has_made() {
    assert_eq!(
        fs::metadata("/proc/self").unwrap().uid(),
        0,
        "only root can give files to another user: run the tests as root, such as in a container"
    );
    let setup = TestServer::bare();
    let state = setup.path("state");
    fs::create_dir(&state).unwrap();
    let ledger = setup.path("ledger.db").display().to_string();
    setup.edit(&ledger, &state.join("ledger.db").display().to_string());
    fs::set_permissions(setup.path(""), Permissions::from_mode(0o755)).unwrap();
    for path in ["state", "token", "operator.token", "other.token"] {
        give(&setup.path(path));
    }
    setup.init(TD, &[]);
    let owner = |name: &str| fs::metadata(state.join(name)).unwrap().uid();
    assert_eq!([owner("ledger.db"), owner("ledger.db.lock")], [USER; 2]);
    // What the ceremony wrote in the token is the module's matter.
    give(&setup.path("token"));

    let as_user = |arguments: &[&str]| {
        let inner = setup.command(arguments);
        let mut command = Command::new("setpriv");
        let user = USER.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.arg(inner.get_program()).args(arguments);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    };
    let server = setup.start_with(as_user(&["serve"])).await;
    server.ready().await;
    server.stop().await;
    assert_eq!(
        [owner("high-water"), owner("high-water/test-0.json")],
        [USER; 2]
    );

    // A ledger that is root's.
    chown(state.join("ledger.db"), Some(0), Some(0)).unwrap();
    fs::set_permissions(state.join("ledger.db"), Permissions::from_mode(0o600)).unwrap();
    let output = as_user(&["serve"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(5), "{text}");
    for part in [
        "belongs to root (mode 0600) and this process runs as uid 54321",
        "chown 54321",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
