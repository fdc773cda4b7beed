//! Files that may not be accessed: who owns them, and who asks, for messages.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Gid, Uid};

/// What to add to the error of `path` when permission is denied: owner, mode, the user of this process,
/// and the command that helps. Empty for other errors.
pub fn denied(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let own = rustix::process::geteuid().as_raw();
    let user = shown(own);
    // The deepest part of the path that can be seen is what denies.
    let Some((part, found)) = path
        .ancestors()
        .find_map(|part| Some((part, part.symlink_metadata().ok()?)))
    else {
        return format!("; this process runs as {user}");
    };
    let (owner, mode) = (shown(found.uid()), found.mode() & 0o7777);
    let part = part.display();
    let advice = match found.uid() == own {
        true => format!("chmod u+rwX {part}"),
        false => {
            let (owner, sudo) = match user_name(own) {
                Some(name) => (name.clone(), name),
                None => (own.to_string(), format!("'#{own}'")),
            };
            format!(
                "chown {owner} {part} (or a directory above), or run the commands as the service's user: \
                 sudo -u {sudo} rootbridge …"
            )
        }
    };
    format!(
        "; {part} belongs to {owner} (mode {mode:04o}) and this process runs as {user}: {advice}"
    )
}

/// Who besides the owner may read or write a file, and the command that ends it; `None` where nobody may.
/// A group to which this process belongs is the service's own: nobody else is expected in it.
pub fn exposed(path: &Path) -> io::Result<Option<(String, String)>> {
    let found = path.metadata()?;
    let mode = found.mode();
    let own_group = rustix::process::getegid().as_raw() == found.gid()
        || rustix::process::getgroups()?
            .iter()
            .any(|group| group.as_raw() == found.gid());
    let others = mode & 0o006 != 0 && is_reached(path, 0o001);
    let group = mode & 0o060 != 0 && !own_group && is_reached(path, 0o011);
    let (who, bits, change) = match (others, group) {
        (true, _) => (
            "any user of this machine".to_owned(),
            mode & 0o007,
            "go-rwx",
        ),
        (false, true) => {
            let gid = found.gid();
            (
                format!("the group with gid {gid}"),
                (mode >> 3) & 0o007,
                "g-rwx",
            )
        }
        (false, false) => return Ok(None),
    };
    let can = match (bits & 0o4 != 0, bits & 0o2 != 0) {
        (true, true) => "read and write",
        (true, false) => "read",
        (false, _) => "write",
    };
    let mode = mode & 0o7777;
    let what = format!("{who} can {can} it (mode {mode:04o})");
    Ok(Some((what, format!("chmod {change} {}", path.display()))))
}

/// Whether every directory above has one of these bits: without them nothing in it is reached.
fn is_reached(path: &Path, bits: u32) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut above = path.ancestors().skip(1);
    above.all(|each| each.metadata().is_ok_and(|it| it.mode() & bits != 0))
}

/// Gives a file that this process has made as root to the owner of its directory, as SQLite does with
/// its own: the server, which runs as another user, must write it.
pub fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let owner = directory.metadata()?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
}

/// The name of a user, by /etc/passwd.
pub fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn shown(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| format!("uid {uid}"))
}
