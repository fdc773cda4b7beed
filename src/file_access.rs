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
        false => format!(
            "chown {user} {part} (or a directory above), or run the commands as the service's user: \
             sudo -u {user} rootbridge …"
        ),
    };
    format!(
        "; {part} belongs to {owner} (mode {mode:04o}) and this process runs as {user}: {advice}"
    )
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
