//! What is not a ring of this user is refused: by an error of its own, with a sentence that names it and the way out, and
//! without touching it.
#![cfg(target_os = "linux")]

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use quoit::spsc::{Receiver, Sender};
use quoit::{OpenError, Options, mpmc, spsc};
use tempfile::TempDir;

#[path = "garbage/seal.rs"]
mod seal;

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap()
}

/// Says on the real standard error, which no test harness holds back, that a claim could not be tried here.
fn skip(claim: &str, why: &str) {
    let line = format!("SKIPPED: {claim}: {why}\n");
    // SAFETY: the bytes live during the call, which reads as many as they are.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

type Refusals = Vec<(&'static str, OpenError)>;

/// Every way to open a ring of bytes of that name, and what each answers.
fn bytes_attempts(name: &str) -> Refusals {
    let plain = Options::new();
    vec![
        ("Sender::open", Sender::open(name).unwrap_err()),
        ("Receiver::open", Receiver::open(name).unwrap_err()),
        ("Sender::open_with", Sender::open_with(name, &plain).unwrap_err()),
        ("Receiver::open_with", Receiver::open_with(name, &plain).unwrap_err()),
        ("Sender::open_or_create", Sender::open_or_create(name, &plain).unwrap_err()),
        ("Receiver::open_or_create", Receiver::open_or_create(name, &plain).unwrap_err()),
    ]
}

/// The same of a ring of slots.
fn slots_attempts(name: &str) -> Refusals {
    use quoit::mpmc::{Receiver, Sender};
    let plain = Options::new();
    vec![
        ("mpmc Sender::open", Sender::open(name).unwrap_err()),
        ("mpmc Receiver::open", Receiver::open(name).unwrap_err()),
        ("mpmc Sender::open_with", Sender::open_with(name, &plain).unwrap_err()),
        ("mpmc Receiver::open_with", Receiver::open_with(name, &plain).unwrap_err()),
        ("mpmc Sender::open_or_create", Sender::open_or_create(name, &plain).unwrap_err()),
        ("mpmc Receiver::open_or_create", Receiver::open_or_create(name, &plain).unwrap_err()),
        ("recover", quoit::recover(name).unwrap_err()),
    ]
}

/// Every way to open or look at what has that name.
fn attempts(name: &str) -> Refusals {
    let mut all = bytes_attempts(name);
    all.extend(slots_attempts(name));
    all.push(("inspect", quoit::inspect(name).unwrap_err()));
    all
}

/// Every way to make a ring of that name.
fn creations(name: &str) -> Refusals {
    let plain = Options::new();
    vec![
        ("create", spsc::create(name, &plain).unwrap_err()),
        ("Sender::create", Sender::create(name, &plain).unwrap_err()),
        ("Receiver::create", Receiver::create(name, &plain).unwrap_err()),
        ("mpmc create", mpmc::create(name, &plain).unwrap_err()),
        ("mpmc Sender::create", mpmc::Sender::create(name, &plain).unwrap_err()),
        ("mpmc Receiver::create", mpmc::Receiver::create(name, &plain).unwrap_err()),
    ]
}

/// Everything that a refused file must keep. Not the time it was read.
fn picture(path: &Path) -> (Option<Vec<u8>>, [i64; 9]) {
    let found = fs::symlink_metadata(path).unwrap();
    let bytes = found.is_file().then(|| fs::read(path).unwrap());
    let numbers = [
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
        found.len() as i64,
        found.mode().into(),
        found.uid().into(),
        found.ino() as i64,
        found.nlink() as i64,
    ];
    (bytes, numbers)
}

/// A file is refused by every way to open it, for this reason and with these words, and left as it is.
fn refused(path: &Path, is: impl Fn(&OpenError) -> bool, words: &[&str]) {
    refused_by(attempts, path, is, words);
}

/// The same of some of the ways.
fn refused_by(
    attempts: fn(&str) -> Refusals,
    path: &Path,
    is: impl Fn(&OpenError) -> bool,
    words: &[&str],
) {
    let before = picture(path);
    let name = path.to_str().unwrap();
    for (verb, error) in attempts(name) {
        assert!(is(&error), "{verb}: {error:?}");
        let sentence = error.to_string();
        for word in words.iter().chain([&name]) {
            assert!(sentence.contains(word), "{verb}: no {word:?} in {sentence:?}");
        }
    }
    for (verb, error) in creations(name) {
        assert!(error.is_already_exists(), "{verb}: {error:?}");
        assert!(error.to_string().contains(name), "{verb}: {error}");
    }
    assert!(picture(path) == before, "what is refused is not touched");
    let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 1, "and nothing is left beside it");
}

/// What a test does to a file.
type Change = Box<dyn FnOnce(&File)>;

/// A way to make a ring and change its file.
type Way = fn(Change) -> (TempDir, std::path::PathBuf);

/// Makes a ring, sends something, leaves, and changes the file.
fn changed(change: impl FnOnce(&File)) -> (TempDir, std::path::PathBuf) {
    let folder = folder();
    let path = folder.path().join("ticks");
    let mut tx = Sender::create(path.to_str().unwrap(), &Options::new().capacity(4096)).unwrap();
    tx.send(b"something").unwrap();
    drop(tx);
    change(&File::options().read(true).write(true).open(&path).unwrap());
    (folder, path)
}

/// The same with a ring of slots: 4 of 64 bytes.
fn changed_slots(change: impl FnOnce(&File)) -> (TempDir, std::path::PathBuf) {
    let folder = folder();
    let path = folder.path().join("ticks");
    let options = Options::new().capacity(4).max_len(48);
    let tx = mpmc::Sender::create(path.to_str().unwrap(), &options).unwrap();
    tx.send(b"something").unwrap();
    drop(tx);
    change(&File::options().read(true).write(true).open(&path).unwrap());
    (folder, path)
}

/// Makes a header's checksum fit what it says.
fn seal(file: &File) {
    let mut header = [0; 256];
    file.read_exact_at(&mut header, 0).unwrap();
    seal::seal(&mut header);
    file.write_all_at(&header, 0).unwrap();
}

#[test]
fn a_ring_that_nobody_changed_is_opened() {
    // So that what follows is refused for what was changed.
    let (_folder, path) = changed(seal);
    let mut rx = Receiver::open(path.to_str().unwrap()).unwrap();
    assert_eq!(rx.recv().unwrap().to_vec(), b"something");
    let (_folder, path) = changed_slots(seal);
    let rx = mpmc::Receiver::open(path.to_str().unwrap()).unwrap();
    assert_eq!(rx.recv().unwrap().to_vec(), b"something");
}

#[test]
fn a_ring_of_another_kind_is_refused() {
    let (_folder, path) = changed_slots(|_| {});
    let words = ["kind mpmc", "use quoit::mpmc"];
    refused_by(bytes_attempts, &path, OpenError::is_wrong_kind, &words);
    let (_folder, path) = changed(|_| {});
    let words = ["kind spsc", "use quoit::spsc"];
    refused_by(slots_attempts, &path, OpenError::is_wrong_kind, &words);
}

#[test]
fn a_ring_that_claims_to_be_of_another_kind_is_refused() {
    // Its data would lie elsewhere, and be of another length.
    for (change, kind) in [(changed as Way, 2u32), (changed_slots as Way, 1)] {
        let (_folder, path) = change(Box::new(move |file| {
            file.write_all_at(&kind.to_le_bytes(), 0x0c).unwrap();
            seal(file);
        }));
        refused(&path, OpenError::is_corrupt, &["unlink it and create it again"]);
    }
}

#[test]
fn a_ring_of_a_kind_that_nobody_knows_is_refused() {
    let (_folder, path) = changed(|file| {
        file.write_all_at(&3u32.to_le_bytes(), 0x0c).unwrap();
        seal(file);
    });
    refused(&path, OpenError::is_corrupt, &["kind", "unlink it and create it again"]);
}

#[test]
fn a_ring_of_another_layout_is_refused_and_both_versions_are_named() {
    for version in [0u32, 2, u32::MAX] {
        let (_folder, path) = changed(|file| {
            file.write_all_at(&version.to_le_bytes(), 0x08).unwrap();
        });
        let is = |error: &OpenError| matches!(error, OpenError::Version { found, supported: 1, .. } if *found == version);
        refused(&path, is, &[&version.to_string(), "the same version of quoit on both sides"]);
    }
}

#[test]
fn a_ring_that_is_cut_short_is_refused_and_both_lengths_are_named() {
    for len in [8, 9, 255, 256, 4096, 0x5000, 0x5000 + 4095] {
        let (_folder, path) = changed(|file| file.set_len(len).unwrap());
        let is = |error: &OpenError| matches!(error, OpenError::Truncated { found, wanted, .. } if *found == len && *wanted > len);
        refused(&path, is, &[&len.to_string(), "create it again"]);
    }
    for len in [8, 255, 256, 0x5000, 0x24fff, 0x25000, 0x25000 + 255] {
        let (_folder, path) = changed_slots(|file| file.set_len(len).unwrap());
        let is = |error: &OpenError| matches!(error, OpenError::Truncated { found, wanted, .. } if *found == len && *wanted > len);
        refused(&path, is, &[&len.to_string(), "create it again"]);
    }
}

#[test]
fn any_changed_byte_of_the_header_is_noticed() {
    for (at, change) in
        (0..256).step_by(5).flat_map(|at| [(at, changed as Way), (at, changed_slots as Way)])
    {
        let (_folder, path) = change(Box::new(move |file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        }));
        let is = |error: &OpenError| match at {
            0..8 => error.is_not_a_ring(),
            8..12 => error.is_version(),
            _ => error.is_corrupt(),
        };
        refused(&path, is, &[]);
    }
}

#[test]
fn cursors_that_contradict_each_other_are_refused() {
    // This is found when the file is mapped already, which the kernel counts as a change; but no byte is another one.
    for (at, garbage) in [(0x1000, 1u64), (0x2000, 64), (0x2080, u64::MAX), (0x1000, 1 << 40)] {
        let (_folder, path) = changed(|file| {
            file.write_all_at(&garbage.to_le_bytes(), at).unwrap();
        });
        let name = path.to_str().unwrap();
        let before = picture(&path);
        let sender = Sender::open(name).err();
        let receiver = Receiver::open(name).err();
        for error in [&sender, &receiver].into_iter().flatten() {
            assert!(error.is_corrupt() && error.to_string().contains(name), "{error}");
        }
        assert!(sender.is_some() || receiver.is_some(), "{garbage:#x} at {at:#x} was believed");
        if sender.is_some() && receiver.is_some() {
            assert!(picture(&path).0 == before.0);
        }
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    let pages = vec![0; 0x6000];
    for (bytes, why) in [
        (&b"dear diary"[..], "another kind"),
        (&pages, "nothing but zeros"),
        (b"", "not a ring"),
        (b"\0", "nothing but zeros"),
    ] {
        let folder = folder();
        let path = folder.path().join("ticks");
        fs::write(&path, bytes).unwrap();
        if bytes.is_empty() {
            let is = |error: &OpenError| error.is_not_a_ring() || error.is_truncated();
            refused(&path, is, &[]);
        } else {
            refused(&path, OpenError::is_not_a_ring, &[why, "choose another name"]);
        }
    }
}

/// Makes a named pipe.
fn pipe(path: &Path) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends in NUL and lives during the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn what_is_not_even_a_file_is_refused_and_neither_followed_nor_waited_for() {
    let refused = |make: &dyn Fn(&Path), why: &str| {
        let folder = folder();
        let path = folder.path().join("ticks");
        make(&path);
        refused(&path, OpenError::is_not_a_ring, &[why, "choose another name"]);
    };
    refused(&|path| fs::create_dir(path).unwrap(), "it is a folder");
    refused(&|path| pipe(path), "it is a named pipe");
    refused(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()), "it is a socket");
    refused(&|path| symlink("/dev/null", path).unwrap(), "it is a symbolic link");
    // To a ring that would be fine, and to nothing.
    let (_folder, ring) = changed(|_| {});
    let before = picture(&ring);
    refused(&|path| symlink(&ring, path).unwrap(), "it is a symbolic link");
    assert!(picture(&ring) == before);
    let nowhere = folder();
    let victim = nowhere.path().join("victim");
    refused(&|path| symlink(&victim, path).unwrap(), "it is a symbolic link");
    assert!(!victim.exists(), "nothing was made through the link");
}

#[test]
fn what_is_not_a_ring_is_not_unlinked_and_neither_is_what_a_link_leads_to() {
    let spared = |make: &dyn Fn(&Path), why: &str| {
        let folder = folder();
        let path = folder.path().join("ticks");
        make(&path);
        let before = picture(&path);
        let error = quoit::unlink(path.to_str().unwrap()).unwrap_err();
        assert!(error.is_not_a_ring(), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(picture(&path) == before);
    };
    spared(&|path| fs::create_dir(path).unwrap(), "it is a folder");
    spared(&|path| pipe(path), "it is a named pipe");
    spared(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()), "it is a socket");
    spared(&|path| fs::write(path, "dear diary").unwrap(), "another kind");
    spared(&|path| fs::write(path, "").unwrap(), "another kind");
    let (_folder, ring) = changed(|_| {});
    let before = picture(&ring);
    spared(&|path| symlink(&ring, path).unwrap(), "it is a symbolic link");
    spared(&|path| symlink("nowhere", path).unwrap(), "it is a symbolic link");
    assert!(picture(&ring) == before);
    // Whoever may remove it may do so, whoever else could write to it.
    fs::set_permissions(&ring, Permissions::from_mode(0o666)).unwrap();
    quoit::unlink(ring.to_str().unwrap()).unwrap();
    assert!(!ring.exists());
}

#[test]
fn a_ring_that_everybody_may_write_to_is_refused() {
    let (_folder, path) = changed(|file| {
        file.set_permissions(Permissions::from_mode(0o666)).unwrap();
    });
    refused(&path, OpenError::is_too_open, &["0666", "chmod o-w"]);
}

#[test]
fn a_ring_of_another_user_is_refused_unless_its_owner_or_group_is_accepted() {
    if !is_root() {
        return skip("a_ring_of_another_user_is_refused", "only root can give a file away");
    }
    let (_folder, path) = changed(|_| {});
    chown(&path, Some(54321), Some(54322)).unwrap();
    let is = |error: &OpenError| matches!(error, OpenError::NotOurs { uid: 54321, .. });
    refused(&path, is, &["54321", "accept_uid or accept_gid"]);
    let name = path.to_str().unwrap();
    for wrong in [Options::new().accept_uid(54322), Options::new().accept_gid(54321)] {
        assert!(Sender::open_with(name, &wrong).unwrap_err().is_not_ours());
    }
    for right in [Options::new().accept_uid(54321), Options::new().accept_gid(54322)] {
        let mut rx = Receiver::open_with(name, &right).unwrap();
        let message = rx.recv().unwrap();
        assert_eq!(message.to_vec(), b"something");
        message.give_back();
    }
}

#[test]
fn a_name_that_no_ring_can_have_is_refused_and_the_rule_is_told() {
    let folder = folder();
    let inside = |file: &str| folder.path().join(file).into_os_string().into_string().unwrap();
    let long_path = format!("{}/{}ticks", folder.path().display(), "./".repeat(2048));
    for (name, why) in [
        (String::new(), "empty"),
        ("a\0b".into(), "NUL"),
        (inside("a\0b"), "NUL"),
        (".".into(), "folder"),
        ("..".into(), "folder"),
        (".hidden".into(), "dot"),
        ("n".repeat(201), "too long"),
        ("é".repeat(101), "too long"),
        (inside(&"n".repeat(256)), "longer than 255"),
        (long_path, "longer than 4095"),
        (inside(""), "folder"),
        (inside(".."), "folder"),
        ("/".into(), "folder"),
    ] {
        for (verb, error) in attempts(&name).into_iter().chain(creations(&name)) {
            assert!(error.is_bad_name(), "{verb} {name:?}: {error:?}");
            let sentence = error.to_string();
            assert!(sentence.contains(why), "{verb} {name:?}: {sentence}");
            assert!(sentence.contains("1 to 200 bytes"), "{verb} {name:?}: {sentence}");
            assert!(sentence.len() < 500, "a long name is abridged");
        }
        assert!(quoit::name_path(&name).unwrap_err().is_bad_name());
        assert!(quoit::unlink(&name).unwrap_err().is_bad_name());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_path_through_what_is_no_folder_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("file"), "x").unwrap();
    let through = folder.path().join("file/ticks").into_os_string().into_string().unwrap();
    for (verb, error) in attempts(&through).into_iter().chain(creations(&through)) {
        assert!(error.is_bad_folder(), "{verb}: {error:?}");
    }
    let nowhere = folder.path().join("nowhere/ticks").into_os_string().into_string().unwrap();
    for (verb, error) in creations(&nowhere) {
        assert!(error.is_bad_folder(), "{verb}: {error:?}");
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
    assert!(Sender::open(&nowhere).unwrap_err().is_not_found());
}

/// What a child reads: it tries plain names in the folder that `QUOIT_DIR` names.
const INSIDE: &str = "QUOIT_TEST_INSIDE";

/// Tries plain names with `QUOIT_DIR` set; whether all was refused with these words. In a process of its own, because the
/// variable is the whole process's.
fn folder_refused(value: &Path, words: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_folder_that_others_could_write_to_is_refused", "--nocapture"])
        .env("QUOIT_DIR", value)
        .env(INSIDE, words)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "QUOIT_DIR={value:?}: {status}");
}

#[test]
fn a_folder_that_others_could_write_to_is_refused() {
    if let Ok(words) = std::env::var(INSIDE) {
        for (verb, error) in attempts("ticks").into_iter().chain(creations("ticks")) {
            assert!(error.is_bad_folder(), "{verb}: {error:?}");
            let sentence = error.to_string();
            let folder = std::env::var("QUOIT_DIR").unwrap();
            assert!(sentence.contains(&words) && sentence.contains(&folder), "{verb}: {sentence}");
        }
        assert!(quoit::list().unwrap_err().is_bad_folder());
        return;
    }
    let folder = folder();
    let make = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        let open = make(&format!("open-{mode:o}"), mode);
        folder_refused(&open, "chmod go-w");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "nothing was made in it");
    }
    folder_refused(Path::new("relative"), "not an absolute path");
    fs::write(folder.path().join("file"), "x").unwrap();
    folder_refused(&folder.path().join("file"), "not a folder");
    if !is_root() {
        return skip("a folder of another user is refused", "only root can give a folder away");
    }
    let theirs = make("theirs", 0o755);
    chown(&theirs, Some(54321), None).unwrap();
    folder_refused(&theirs, "54321");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0, "nothing was made in it");
}
