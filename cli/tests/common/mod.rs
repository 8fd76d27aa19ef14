//! The folders that the tests of the tool work in.
//!
//! Knows where rings lie and that nothing of it stays. Knows nothing of the tool.

use std::fs;
use std::path::PathBuf;

/// A folder of rings, and room beside it.
pub(crate) struct House {
    pub(crate) dir: tempfile::TempDir,
}

impl House {
    pub(crate) fn new() -> House {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let house = House { dir };
        fs::create_dir(house.rings()).unwrap();
        // Whatever the umask: a folder that others may write is refused.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(house.rings(), private).unwrap();
        house
    }

    pub(crate) fn rings(&self) -> PathBuf {
        self.dir.path().join("rings")
    }
}
