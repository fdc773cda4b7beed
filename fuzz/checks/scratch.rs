//! Files in memory: they have a path, need no disk, and do not remain after a crash.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

pub(crate) struct Scratch(File);

impl Scratch {
    pub(crate) fn new(content: &[u8]) -> Self {
        let mut file = File::from(memfd_create("check", MemfdFlags::CLOEXEC).expect("memfd"));
        file.write_all(content).expect("memory");
        Self(file)
    }

    pub(crate) fn set(&mut self, content: &[u8]) {
        self.0.set_len(0).expect("memory");
        self.0.rewind().expect("memory");
        self.0.write_all(content).expect("memory");
    }

    /// Each open of this path reads from the start.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
