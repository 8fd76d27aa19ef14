//! What may be said on the command line. Knows words, sizes and durations;
//! knows nothing of what the commands do with them.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Parser, Subcommand};

use crate::commands;

/// Rings between the processes of one machine.
///
/// A plain NAME is a ring of the user's own folder in /dev/shm (QUOIT_DIR
/// names another); a NAME with a slash is a path.
#[derive(Debug, Parser)]
#[command(name = "quoit", version, after_help = CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const CODES: &str = "\
Exit status:
  0  done
  1  failed
  2  wrong usage, size, count or name
  3  no such ring
  4  timed out
  5  full or empty, with --no-wait
  6  the other side died: what came is not the whole
  7  not a ring, or one of another version or kind, truncated or corrupt
  128 + n  stopped by signal n";

/// The commands, in the order of a first acquaintance.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(commands::demo::Args),
    #[command(hide = true)]
    DemoPeer(commands::demo::PeerArgs),
    #[command(hide = true)]
    DemoWorker(commands::demo::WorkerArgs),
    Bench(commands::bench::Args),
    #[command(hide = true)]
    BenchEnd(commands::bench::EndArgs),
    Create(commands::create::Args),
    Ls(commands::ls::Args),
    Stat(commands::stat::Args),
    Send(commands::send::Args),
    Recv(commands::recv::Args),
    Recover(commands::recover::Args),
    Rm(commands::rm::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

/// A number of bytes: `65536`, `64KiB`, `1MiB`. `KiB` is 1024, `KB` is 1000.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    // The parser of the library takes any float: signs, exponents and what
    // saturates are not sizes.
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err("a size is a number with a unit, such as 65536, 64KiB or 1MiB".into());
    }
    let bytes = text.parse::<ByteSize>()?.as_u64();
    if bytes == 0 || bytes > 1 << 62 {
        return Err("a size is more than nothing and less than all".into());
    }
    usize::try_from(bytes).map_err(|_| "more than this machine can address".into())
}

/// A length of time: `5s`, `200ms`, `1m 30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; say for example 5s or 200ms"))
}

/// A length of time that is not nothing.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("an interval is more than nothing".into()),
        some => Ok(some),
    }
}

/// The permissions of a file, in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "a mode is three octal digits, such as 600 or 660".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_binary_where_they_say_so() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("64 KiB"), Ok(65536));
        assert_eq!(size("64kib"), Ok(65536));
        assert_eq!(size("64KB"), Ok(64000));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("0.5KiB"), Ok(512));
    }

    #[test]
    fn nonsense_is_not_a_size() {
        for text in [
            "",
            "KiB",
            "-1",
            "-5KiB",
            "+5KiB",
            "1e3",
            "1e30",
            "nan",
            "inf",
            "64 apples",
            "64KiBs",
            "0",
            "0KiB",
            "99999999999999999999",
            "16EiB",
            "1.2.3",
            "0x10",
            "٣",
            "64 KiB x",
            " ",
        ] {
            assert!(size(text).is_err(), "{text:?} passed for {:?}", size(text));
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("600"), Ok(0o600));
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("888").is_err());
        assert!(mode("1777").is_err());
        assert!(mode("rw").is_err());
    }

    #[test]
    fn an_interval_is_more_than_nothing() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert!(interval("0s").is_err());
        assert!(interval("soon").is_err());
    }
}
