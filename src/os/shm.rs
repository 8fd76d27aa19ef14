//! Names, folders and files. Knows where a ring of a given name lives, how to make
//! its file so that nobody ever sees half of one, and whom to trust; knows nothing
//! of what is in it.
//!
//! A file is made without a name, given all its memory and its contents, and linked
//! to its name last: `linkat` fails if the name is taken. Where the filesystem or a
//! missing /proc forbids that, the file has a name with a leading dot meanwhile.

use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::path::{Path, PathBuf};

use crate::error::{OpenError, RingName};
use crate::os::map::Held;
use crate::os::process;

/// The variable that names the folder of plain names.
const FOLDER_VARIABLE: &str = "QUOIT_DIR";
const LONGEST_NAME: usize = 200;
/// What the kernel takes, without the NUL.
const LONGEST_PATH: usize = 4095;
const LONGEST_COMPONENT: usize = 255;
/// So much is allocated by one call. A signal undoes a call, so a program with a
/// fast timer would never get a large ring in one.
const CHUNK: u64 = 4 << 20;

/// Where a ring lives, or would.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: RingName,
    pub(crate) path: PathBuf,
    folder: PathBuf,
    plan: Plan,
}

/// Who answers for the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// We: it is ours, below a folder where everybody may write.
    Default,
    /// Whoever set the variable; we check that only they can write there.
    Variable,
    /// Whoever gave the path.
    Path,
}

impl Place {
    fn os(&self, doing: &'static str, source: io::Error) -> OpenError {
        OpenError::Os { ring: self.name.clone(), doing, source }
    }

    fn bad_folder(&self, why: impl Into<String>) -> OpenError {
        OpenError::BadFolder { path: self.folder.clone(), why: why.into() }
    }

    fn not_a_ring(&self, why: &'static str) -> OpenError {
        OpenError::NotARing { ring: self.name.clone(), why }
    }
}

/// Whose rings to trust besides our own and root's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accept {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Where the ring of this name lives. Looks at no file: a name that can not be one
/// is refused before the kernel hears of it.
pub(crate) fn place(name: &str) -> Result<Place, OpenError> {
    place_in(name, || std::env::var_os(FOLDER_VARIABLE))
}

fn place_in(name: &str, variable: impl FnOnce() -> Option<OsString>) -> Result<Place, OpenError> {
    let bad = |why| Err(OpenError::BadName { name: abridged(name), why });
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.contains('\0') {
        return bad("it has a NUL in it");
    }
    let (folder, path, plan) = if name.contains('/') {
        let file = name.rsplit('/').next().unwrap_or_default();
        if matches!(file, "" | "." | "..") {
            return bad("it is the path of a folder");
        }
        let path = PathBuf::from(name);
        let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        (folder, path, Plan::Path)
    } else {
        if name == "." || name == ".." {
            return bad("it is a folder");
        }
        if name.starts_with('.') {
            return bad("it begins with a dot");
        }
        if name.len() > LONGEST_NAME {
            return bad("it is too long");
        }
        let (folder, plan) = folder_in(variable())?;
        (folder.clone(), folder.join(name), plan)
    };
    if path.as_os_str().len() > LONGEST_PATH {
        return bad("its path is longer than 4095 bytes");
    }
    if path.as_os_str().as_bytes().split(|&byte| byte == b'/').any(|c| c.len() > LONGEST_COMPONENT)
    {
        return bad("a part of its path is longer than 255 bytes");
    }
    Ok(Place { name: RingName::new(name), path, folder, plan })
}

/// A name that fits into a message.
fn abridged(name: &str) -> String {
    const SHOWN: usize = 64;
    if name.chars().count() <= SHOWN {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(SHOWN).collect();
    short.push('…');
    short
}

fn folder_in(variable: Option<OsString>) -> Result<(PathBuf, Plan), OpenError> {
    match variable {
        None => Ok((PathBuf::from(format!("/dev/shm/quoit-{}", process::euid())), Plan::Default)),
        Some(folder) => {
            let folder = PathBuf::from(folder);
            if !folder.is_absolute() || folder.as_os_str().as_bytes().contains(&0) {
                let why = "QUOIT_DIR is not an absolute path; set it to one, or unset it";
                return Err(OpenError::BadFolder { path: folder, why: why.to_owned() });
            }
            Ok((folder, Plan::Variable))
        }
    }
}

/// Checks the folder of a plain name, and makes it if it is to be made. A missing
/// one is no error otherwise: then there is no ring in it.
fn check_folder(place: &Place, make: bool) -> Result<(), OpenError> {
    if place.plan == Plan::Path {
        return Ok(());
    }
    let look = || match place.plan {
        // Everybody may write where it lies: a link there is somebody's trap.
        Plan::Default => fs::symlink_metadata(&place.folder),
        _ => fs::metadata(&place.folder),
    };
    let mut found = look();
    if make && is_missing(&found) {
        match fs::DirBuilder::new().mode(0o700).create(&place.folder) {
            // The umask may have taken rights away from us.
            Ok(()) => fs::set_permissions(&place.folder, fs::Permissions::from_mode(0o700))
                .map_err(|error| place.bad_folder(format!("making it failed: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(place.bad_folder(format!("making it failed: {error}"))),
        }
        found = look();
    }
    let found = match found {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(()),
        Err(error) => return Err(place.bad_folder(format!("looking at it failed: {error}"))),
    };
    if !found.is_dir() {
        return Err(place.bad_folder("it is not a folder; remove it, or set QUOIT_DIR"));
    }
    if found.uid() != process::euid() && found.uid() != 0 {
        return Err(place.bad_folder(format!(
            "it belongs to user {}, who is neither the caller nor root; set QUOIT_DIR to a \
             folder of your own, or give the ring's path",
            found.uid()
        )));
    }
    if found.mode() & 0o022 != 0 {
        return Err(place.bad_folder(format!(
            "its mode {:04o} lets other users write there; take that right away (chmod go-w)",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

fn is_missing<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// The names in the folder of plain names that could be rings, sorted.
pub(crate) fn list() -> Result<Vec<String>, OpenError> {
    let (folder, plan) = folder_in(std::env::var_os(FOLDER_VARIABLE))?;
    list_in(folder, plan)
}

fn list_in(folder: PathBuf, plan: Plan) -> Result<Vec<String>, OpenError> {
    let place = Place { name: RingName::new(""), path: folder.clone(), folder, plan };
    check_folder(&place, false)?;
    let failed = |error: io::Error| place.bad_folder(format!("reading it failed: {error}"));
    let mut entries = fs::read_dir(&place.folder);
    // A signal may end the opening of a folder; the library opens files again by itself, but not folders.
    while matches!(&entries, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        entries = fs::read_dir(&place.folder);
    }
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no text, or begins with a dot, can not be a ring's.
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            if place_in(&name, || Some(place.folder.clone().into())).is_ok() {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A file that has no name yet (or a hidden one) and is to get one.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) held: Held,
    pub(crate) publication: Publication,
}

/// How a draft gets its name. Dropped without that, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Publication {
    place: Place,
    hidden: Option<Hidden>,
}

/// A file's name for the time being; removed when dropped.
#[derive(Debug)]
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Begins a new ring's file. Fails early, and without having allocated anything, if
/// the name is taken.
pub(crate) fn draft(place: &Place) -> Result<Draft, OpenError> {
    check_folder(place, true)?;
    match fs::symlink_metadata(&place.path) {
        Ok(_) => return Err(OpenError::AlreadyExists { ring: place.name.clone() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(no_such_folder(place, error)),
    }
    match unnamed(place) {
        Ok(Some(held)) => {
            return Ok(Draft {
                held,
                publication: Publication { place: place.clone(), hidden: None },
            });
        }
        Ok(None) => {}
        Err(error) => return Err(no_such_folder(place, error)),
    }
    hidden(place).map_err(|error| no_such_folder(place, error))
}

fn no_such_folder(place: &Place, error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => place.bad_folder("it does not exist; make it first"),
        Some(libc::ENOTDIR) => place.bad_folder("it is not a folder; choose another path"),
        Some(libc::ELOOP) => place.bad_folder("its path goes in circles; choose another path"),
        _ => place.os("creating its file", error),
    }
}

/// Opens a file without a name. None: that, or naming it later, is impossible here.
fn unnamed(place: &Place) -> io::Result<Option<Held>> {
    let opened = Held::open(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(&place.folder)
    });
    match opened {
        Ok(held) => Ok(same(&fs::metadata(through_proc(held.fd())), &held).then_some(held)),
        Err(error) => match error.raw_os_error() {
            // The filesystem has no such files.
            Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

fn same(found: &io::Result<Metadata>, held: &Held) -> bool {
    match (found, held.file().metadata()) {
        (Ok(found), Ok(ours)) => (found.dev(), found.ino()) == (ours.dev(), ours.ino()),
        _ => false,
    }
}

fn through_proc(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens a new file under a name that nobody asks for.
fn hidden(place: &Place) -> io::Result<Draft> {
    let mut hidden = None;
    let held = Held::open(|| {
        let mut name = String::from(".quoit-");
        for byte in process::random()? {
            name.push_str(&format!("{byte:02x}"));
        }
        let path = place.folder.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o600)
            .open(&path)?;
        // Replaces, and so removes, the one before if a fork made us open twice.
        hidden = Some(Hidden(path));
        Ok(file)
    })?;
    Ok(Draft { held, publication: Publication { place: place.clone(), hidden } })
}

impl Publication {
    /// Gives the file its name, unless the name is taken.
    pub(crate) fn publish(mut self, fd: BorrowedFd<'_>) -> Result<(), OpenError> {
        let done = match self.hidden.take() {
            None => link(&through_proc(fd), &self.place.path, libc::AT_SYMLINK_FOLLOW),
            Some(hidden) => match rename_to_free(&hidden.0, &self.place.path) {
                Ok(()) => {
                    // The name is the ring's now. There is nothing to remove.
                    std::mem::forget(hidden);
                    Ok(())
                }
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Err(error),
                // A filesystem that can not do that can link, and then the hidden
                // name goes when `hidden` does.
                Err(_) => link(&hidden.0, &self.place.path, 0),
            },
        };
        done.map_err(|error| match error.raw_os_error() {
            Some(libc::EEXIST) => OpenError::AlreadyExists { ring: self.place.name.clone() },
            Some(libc::ENOENT) => self.place.bad_folder("it was removed meanwhile; make it again"),
            _ => self.place.os("naming its file", error),
        })
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn link(from: &Path, to: &Path, flags: libc::c_int) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // SAFETY: both strings end in NUL and live during the call, which only reads.
    let rc =
        unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    // The C library's function is younger than the call in some places.
    // SAFETY: both strings end in NUL and live during the call, which only reads.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives a new file `total` bytes that really exist, so that nobody meets a bus
/// error when the filesystem is full. Leaves nothing allocated when it fails.
pub(crate) fn allocate(place: &Place, file: &File, total: u64) -> Result<(), OpenError> {
    let no_space = || OpenError::NoSpace {
        ring: place.name.clone(),
        wanted: total,
        free: space(file).map_or(0, |space| space.available),
    };
    // What can not succeed is not tried: half of it would push others out first.
    if space(file).is_some_and(|space| space.blocks_exist && space.free < total) {
        return Err(no_space());
    }
    // Beyond this limit the kernel sends a signal that ends the process.
    if file_size_limit().is_some_and(|limit| limit < total) {
        let error = io::Error::from_raw_os_error(libc::EFBIG);
        return Err(place.os("allocating its file (see ulimit -f)", error));
    }
    let mut at = 0;
    while at < total {
        let len = CHUNK.min(total - at);
        match allocate_range(file, at, len) {
            Ok(()) => at += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = file.set_len(0);
                return Err(match error.raw_os_error() {
                    Some(libc::ENOSPC) => no_space(),
                    _ => place.os("allocating its file", error),
                });
            }
        }
    }
    Ok(())
}

fn allocate_range(file: &File, at: u64, len: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let offset = libc::off64_t::try_from(at).map_err(too_large)?;
    let length = libc::off64_t::try_from(len).map_err(too_large)?;
    // SAFETY: the descriptor is open while `file` is borrowed; no memory is passed.
    match unsafe { libc::posix_fallocate64(file.as_raw_fd(), offset, length) } {
        0 => Ok(()),
        // Some C libraries leave it to us where the filesystem has no such call.
        libc::EOPNOTSUPP => {
            let zeros = [0u8; 4096];
            let mut done = 0;
            while done < len {
                let part = &zeros[..usize::try_from(len - done).unwrap_or(4096).min(4096)];
                file.write_all_at(part, at + done)?;
                done += part.len() as u64;
            }
            Ok(())
        }
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

struct Space {
    /// Bytes that nobody uses, and those of them that this user may.
    free: u64,
    available: u64,
    /// A filesystem without a limit reports none at all.
    blocks_exist: bool,
}

fn space(file: &File) -> Option<Space> {
    // SAFETY: statvfs64 is plain integers, for which zero is a value.
    let mut stat: libc::statvfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open while `file` is borrowed, and `stat` is a live
    // structure of this frame.
    let rc = unsafe { libc::fstatvfs64(file.as_raw_fd(), &raw mut stat) };
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // Varies by target.
    (rc == 0).then(|| Space {
        free: (stat.f_bfree as u64).saturating_mul(stat.f_frsize as u64),
        available: (stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64),
        blocks_exist: stat.f_blocks != 0,
    })
}

fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live structure of this frame.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // Varies by target.
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
}

/// Opens an existing ring's file to read and write. Changes nothing in it.
pub(crate) fn open(place: &Place, accept: Accept) -> Result<(Held, Metadata), OpenError> {
    look(place, accept)?;
    let held = Held::open(|| open_options(true).open(&place.path))
        .map_err(|error| unopened(place, error))?;
    let found = examine(place, accept, held.file())?;
    Ok((held, found))
}

/// Opens an existing ring's file to look at it only.
pub(crate) fn open_to_read(place: &Place, accept: Accept) -> Result<(File, Metadata), OpenError> {
    look(place, accept)?;
    let file = open_options(false).open(&place.path).map_err(|error| unopened(place, error))?;
    let found = examine(place, accept, &file)?;
    Ok((file, found))
}

fn open_options(write: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    // Neither through a link that somebody planted, nor waiting at a pipe.
    options.read(true).write(write).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Looks before opening: to open a device can have effects, and to be refused says
/// less than the reason does.
fn look(place: &Place, accept: Accept) -> Result<(), OpenError> {
    check_folder(place, false)?;
    let found = fs::symlink_metadata(&place.path).map_err(|error| unopened(place, error))?;
    check(place, accept, &found)
}

/// Looks again at what was really opened.
fn examine(place: &Place, accept: Accept, file: &File) -> Result<Metadata, OpenError> {
    let found = file.metadata().map_err(|error| place.os("looking at its file", error))?;
    check(place, accept, &found)?;
    Ok(found)
}

fn unopened(place: &Place, error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => OpenError::NotFound { ring: place.name.clone() },
        Some(libc::ENOTDIR) => place.bad_folder("it is not a folder; choose another path"),
        _ => place.os("opening its file", error),
    }
}

fn check(place: &Place, accept: Accept, found: &Metadata) -> Result<(), OpenError> {
    let kind = found.file_type();
    if !kind.is_file() {
        return Err(place.not_a_ring(if kind.is_dir() {
            "it is a folder"
        } else if kind.is_symlink() {
            "it is a symbolic link, and those are not followed"
        } else if kind.is_fifo() {
            "it is a named pipe"
        } else if kind.is_socket() {
            "it is a socket"
        } else {
            "it is a device"
        }));
    }
    let trusted = found.uid() == process::euid()
        || found.uid() == 0
        || accept.uid == Some(found.uid())
        || accept.gid == Some(found.gid());
    if !trusted {
        return Err(OpenError::NotOurs { ring: place.name.clone(), uid: found.uid() });
    }
    if found.mode() & 0o002 != 0 {
        let mode = found.mode() & 0o7777;
        return Err(OpenError::TooOpen { ring: place.name.clone(), mode });
    }
    Ok(())
}

/// Whether the ring's name still leads to this very file.
pub(crate) fn is_at(place: &Place, file: &File) -> Result<bool, OpenError> {
    let ours = file.metadata().map_err(|error| place.os("looking at its file", error))?;
    match fs::symlink_metadata(&place.path) {
        Ok(found) => Ok(ours.nlink() > 0 && (found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(place.os("looking for its file", error)),
    }
}

/// The first bytes of a file, as many as it has. Read, not mapped: nobody can take
/// them away or change them afterwards.
pub(crate) fn snapshot<'a>(file: &File, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..len])
}

/// Sets the permissions of an open file, whatever the umask.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Takes a ring's name away. Refuses whatever does not begin as a ring does.
pub(crate) fn unlink(place: &Place, magic: &[u8; 8]) -> Result<(), OpenError> {
    check_folder(place, false)?;
    let found = fs::symlink_metadata(&place.path).map_err(|error| unopened(place, error))?;
    // Neither the owner nor the mode matters to somebody who may remove the file.
    let anybody = Accept { uid: Some(found.uid()), gid: None };
    match check(place, anybody, &found) {
        Ok(()) | Err(OpenError::TooOpen { .. }) => {}
        Err(error) => return Err(error),
    }
    let file = open_options(false).open(&place.path).map_err(|error| unopened(place, error))?;
    let mut buffer = [0; 8];
    let start =
        snapshot(&file, &mut buffer).map_err(|error| place.os("reading its file", error))?;
    if start != magic {
        return Err(place.not_a_ring("it is a file of another kind"));
    }
    match fs::remove_file(&place.path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::NotFound { ring: place.name.clone() })
        }
        Err(error) => Err(place.os("removing its file", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing;

    fn plain(name: &str) -> Result<Place, OpenError> {
        place_in(name, || None)
    }

    #[test]
    fn a_plain_name_lives_in_the_users_folder() {
        let place = plain("ticks").unwrap();
        let uid = process::euid();
        assert_eq!(place.path, PathBuf::from(format!("/dev/shm/quoit-{uid}/ticks")));
        assert_eq!(place.name.as_str(), "ticks");
    }

    #[test]
    fn a_plain_name_lives_where_the_variable_says() {
        let place = place_in("ticks", || Some("/run/rings".into())).unwrap();
        assert_eq!(place.path, Path::new("/run/rings/ticks"));
    }

    #[test]
    fn a_folder_that_is_not_absolute_is_refused() {
        for folder in ["", "rings", "./rings", "../rings"] {
            let error = place_in("ticks", || Some(folder.into())).unwrap_err();
            assert!(error.is_bad_folder(), "{error}");
        }
    }

    #[test]
    fn a_name_with_a_slash_is_a_path_as_it_is() {
        for (name, folder) in
            [("/tmp/ticks", "/tmp"), ("./ticks", "."), ("a/../b", "a/.."), ("/x", "/")]
        {
            let place = place_in(name, || panic!("the variable is for plain names")).unwrap();
            assert_eq!(place.path, Path::new(name));
            assert_eq!(place.folder, Path::new(folder));
        }
    }

    #[test]
    fn names_that_can_not_be_are_refused_before_the_kernel_hears_of_them() {
        let long = "x".repeat(201);
        let long_part = format!("/tmp/{}", "x".repeat(256));
        let long_path = format!("/{}", "x/".repeat(2048) + "x");
        let bad = [
            "",
            ".",
            "..",
            ".hidden",
            "a\0b",
            "/tmp/a\0b",
            "/",
            "a/",
            "/tmp/",
            "/tmp/.",
            "/tmp/..",
            &long,
            &long_part,
            &long_path,
        ];
        for name in bad {
            let error = plain(name).unwrap_err();
            assert!(error.is_bad_name(), "{error}");
            assert!(error.to_string().len() < 400);
        }
        plain(&"x".repeat(200)).unwrap();
        plain(&format!("/tmp/{}", "x".repeat(255))).unwrap();
        plain("ä ö\n").unwrap();
    }

    #[test]
    fn a_plain_name_in_a_folder_too_deep_is_refused() {
        let folder = format!("/{}", "x/".repeat(2000));
        let error = place_in(&"y".repeat(200), || Some(folder.into())).unwrap_err();
        assert!(error.is_bad_name(), "{error}");
    }

    #[test]
    fn the_folder_is_made_private_and_only_to_create() {
        let dir = testing::dir();
        let folder = dir.path().join("rings");
        let place = place_in("ticks", || Some(folder.clone().into())).unwrap();
        check_folder(&place, false).unwrap();
        assert!(!folder.exists());
        check_folder(&place, true).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        check_folder(&place, true).unwrap();
    }

    #[test]
    fn the_folder_is_private_whatever_the_umask() {
        let dir = testing::forking_dir();
        for mask in [0o000, 0o027, 0o077, 0o777] {
            let folder = dir.path().join(format!("{mask:o}"));
            let place = place_in("ticks", || Some(folder.clone().into())).unwrap();
            assert!(testing::Child::run(|| {
                testing::umask(mask);
                check_folder(&place, true).is_ok()
            }));
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn a_folder_where_others_write_is_refused() {
        let dir = testing::dir();
        let place = place_in("ticks", || Some(dir.path().into())).unwrap();
        for mode in [0o700, 0o750, 0o755, 0o711] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            check_folder(&place, true).unwrap();
        }
        for mode in [0o770, 0o707, 0o1777, 0o720] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            for make in [false, true] {
                let error = check_folder(&place, make).unwrap_err();
                assert!(error.is_bad_folder(), "{error}");
            }
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        let dir = testing::dir();
        if std::os::unix::fs::chown(dir.path(), Some(12345), None).is_err() {
            return testing::skip("a_folder_of_somebody_else_is_refused", "needs root");
        }
        let place = place_in("ticks", || Some(dir.path().into())).unwrap();
        let error = check_folder(&place, true).unwrap_err();
        assert!(error.is_bad_folder(), "{error}");
        assert!(error.to_string().contains("12345"));
    }

    #[test]
    fn a_file_or_a_planted_link_is_no_folder() {
        let dir = testing::dir();
        let file = dir.path().join("file");
        File::create(&file).unwrap();
        let place = place_in("ticks", || Some(file.into())).unwrap();
        assert!(check_folder(&place, true).unwrap_err().is_bad_folder());

        fs::create_dir_all(dir.path().join("real")).unwrap();
        fs::set_permissions(dir.path().join("real"), fs::Permissions::from_mode(0o700)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
        // Whoever sets the variable may use links; where everybody writes, no.
        let mut place = place_in("ticks", || Some(link.into())).unwrap();
        check_folder(&place, true).unwrap();
        place.plan = Plan::Default;
        assert!(check_folder(&place, true).unwrap_err().is_bad_folder());
    }

    fn place_at(dir: &Path) -> Place {
        place_in(dir.join("ticks").to_str().unwrap(), || None).unwrap()
    }

    fn publish(draft: Draft) -> Result<(), OpenError> {
        draft.publication.publish(draft.held.fd())
    }

    #[test]
    fn a_draft_is_invisible_until_it_is_published() {
        crate::os::fork::arm().unwrap();
        let dir = testing::dir();
        let place = place_at(dir.path());
        let abandoned = draft(&place).unwrap();
        assert_eq!(dir.count(), 0);
        drop(abandoned);
        let published = draft(&place).unwrap();
        publish(published).unwrap();
        assert_eq!(dir.count(), 1);
        assert!(draft(&place).unwrap_err().is_already_exists());
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_replaced() {
        crate::os::fork::arm().unwrap();
        let dir = testing::dir();
        let place = place_at(dir.path());
        for make in [draft, |place: &Place| Ok(hidden(place).unwrap())] {
            let late = make(&place).unwrap();
            fs::write(&place.path, "first").unwrap();
            assert!(publish(late).unwrap_err().is_already_exists());
            assert_eq!(fs::read(&place.path).unwrap(), b"first");
            assert_eq!(dir.count(), 1, "nothing is left behind");
            fs::remove_file(&place.path).unwrap();
        }
    }

    #[test]
    fn a_hidden_draft_goes_when_dropped_and_stays_when_published() {
        crate::os::fork::arm().unwrap();
        let dir = testing::dir();
        let place = place_at(dir.path());
        let abandoned = hidden(&place).unwrap();
        assert_eq!(dir.count(), 1);
        drop(abandoned);
        assert_eq!(dir.count(), 0);
        publish(hidden(&place).unwrap()).unwrap();
        assert_eq!(dir.count(), 1);
        assert!(place.path.exists());
    }

    #[test]
    fn linking_is_what_remains_where_renaming_can_not_refuse() {
        let dir = testing::dir();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "x").unwrap();
        link(&from, &to, 0).unwrap();
        let error = link(&from, &to, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        let error = rename_to_free(&from, &to).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        crate::os::fork::arm().unwrap();
        let dir = testing::dir();
        let place = place_at(&dir.path().join("nowhere"));
        let error = draft(&place).unwrap_err();
        assert!(error.is_bad_folder(), "{error}");
        fs::write(dir.path().join("file"), "x").unwrap();
        let place = place_at(&dir.path().join("file"));
        let error = draft(&place).unwrap_err();
        assert!(error.is_bad_folder(), "{error}");
        let error = open(&place, Accept::default()).unwrap_err();
        assert!(error.is_bad_folder(), "{error}");
    }

    #[test]
    fn an_allocation_that_can_not_be_is_refused_and_leaves_nothing() {
        let dir = testing::dir();
        let place = place_at(dir.path());
        let file = File::create(dir.path().join("f")).unwrap();
        let error = allocate(&place, &file, 1 << 50).unwrap_err();
        assert!(error.is_no_space() || error.is_os(), "{error}");
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        allocate(&place, &file, CHUNK + 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), CHUNK + 4096);
        assert!(file.metadata().unwrap().blocks() * 512 >= CHUNK + 4096);
    }

    #[test]
    fn what_is_planted_after_the_look_is_neither_followed_nor_waited_for() {
        let dir = testing::dir();
        let (real, link, pipe) =
            (dir.path().join("real"), dir.path().join("link"), dir.path().join("pipe"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        testing::mkfifo(&pipe);
        for write in [false, true] {
            let error = open_options(write).open(&link).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
            // Without O_NONBLOCK this waits for a writer for ever.
            let opened = open_options(write).open(&pipe).unwrap();
            let place = place_at(dir.path());
            assert!(examine(&place, Accept::default(), &opened).unwrap_err().is_not_a_ring());
        }
    }

    #[test]
    fn the_limit_on_file_sizes_is_an_error_and_not_a_signal() {
        let dir = testing::forking_dir();
        let place = place_at(dir.path());
        let file = File::create(dir.path().join("f")).unwrap();
        assert!(testing::Child::run(|| {
            assert!(testing::limit_file_size(4096));
            allocate(&place, &file, 8192).unwrap_err().is_os()
        }));
    }

    #[test]
    fn signals_delay_an_allocation_and_do_not_fail_it() {
        let dir = testing::forking_dir();
        let place = place_at(dir.path());
        let file = File::create(dir.path().join("f")).unwrap();
        assert!(testing::Child::run(|| {
            testing::interrupt_often();
            allocate(&place, &file, 16 * CHUNK).is_ok()
        }));
        assert_eq!(file.metadata().unwrap().blocks() * 512, 16 * CHUNK);
    }

    #[test]
    fn a_list_has_what_could_be_rings_in_order() {
        let dir = testing::dir();
        for name in ["b", "a", ".hidden"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let folder = dir.path().to_path_buf();
        assert_eq!(list_in(folder.clone(), Plan::Variable).unwrap(), ["a", "b"]);
        assert!(list_in(folder.join("nowhere"), Plan::Variable).unwrap().is_empty());
    }

    #[test]
    fn only_what_begins_as_a_ring_is_unlinked() {
        let magic = b"12345678";
        let dir = testing::dir();
        let place = place_at(dir.path());
        assert!(unlink(&place, magic).unwrap_err().is_not_found());
        fs::write(&place.path, "1234567").unwrap();
        assert!(unlink(&place, magic).unwrap_err().is_not_a_ring());
        fs::write(&place.path, "123456789").unwrap();
        unlink(&place, magic).unwrap();
        assert!(!place.path.exists());
        fs::create_dir(&place.path).unwrap();
        assert!(unlink(&place, magic).unwrap_err().is_not_a_ring());
        assert!(place.path.exists());
    }
}
