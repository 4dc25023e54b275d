//! Disks of a test's own.

use std::path::Path;
use std::process::Command;

/// A small disk; where it cannot be had, that is said.
pub struct Disk(tempfile::TempDir);

impl Disk {
    pub fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder.path()) {
            eprintln!("SKIPPED: no disk can be mounted here; hint: run as root, in a system of its own");
            return None;
        }
        Some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Whether it is another disk from now on, such as `size=8m` or `ro`.
    pub fn remount(&self, options: &str) -> bool {
        mount(&["-o", &format!("remount,{options}")], self.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(at).output();
    mounted.is_ok_and(|mounted| mounted.status.success())
}
