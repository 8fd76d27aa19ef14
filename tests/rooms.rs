//! Each room of `src/` knows only what lies below it (docs/architecture.md).
//!
//! Knows the text of the files and the order of the layers; reads no meaning.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A room and its layer. `None` stands beside the tower.
const ROOMS: [(&str, Option<u32>); 19] = [
    ("error", None),
    ("options", None),
    ("sync", Some(0)),
    ("os", Some(0)),
    ("layout", Some(1)),
    ("region", Some(2)),
    ("roster", Some(2)),
    ("wake", Some(2)),
    ("seats", Some(2)),
    ("ring", Some(2)),
    ("link", Some(3)),
    ("blocking", Some(3)),
    ("draft", Some(3)),
    ("recovery", Some(3)),
    ("party", Some(3)),
    ("endpoint", Some(3)),
    ("inspect", Some(3)),
    ("spsc", Some(4)),
    ("mpmc", Some(4)),
];

/// Whether `from` may name `to`.
fn may_name(from: &str, to: &str) -> bool {
    match (layer(from), layer(to)) {
        (_, None) => true,
        // Plain data: it may know the limits of the layout, and nothing that does anything.
        (None, Some(_)) => to == "layout",
        (Some(from), Some(to)) => to <= from,
    }
}

fn layer(room: &str) -> Option<u32> {
    let found = ROOMS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("no room is called {room:?}: give it a layer")).1
}

/// A file of `src/`: its path from there, its whole text, and its text without comments.
struct Page {
    path: String,
    text: String,
    code: String,
}

impl Page {
    /// The room that the file belongs to: its folder, or itself.
    fn room(&self) -> &str {
        self.path.split('/').next().expect("a path").trim_end_matches(".rs")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

fn pages() -> Vec<Page> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "only {} files in {}", paths.len(), src.display());
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("text");
            let code = text.lines().map(uncommented).collect::<Vec<_>>().join("\n");
            let path = path.strip_prefix(&src).expect("below src").to_str().expect("ASCII");
            Page { path: path.to_owned(), text, code }
        })
        .collect()
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The line up to its comment. A `//` in a string cuts the line too short; paths come before that.
fn uncommented(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code behind each place where `word` stands as a word of its own.
fn behind<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let rest = &code[at + word.len()..];
        let begins = !code[..at].ends_with(is_word);
        (begins && !rest.starts_with(is_word)).then_some(rest)
    })
}

/// The rooms that are named by `crate::room` and by `crate::{room, room::...}`.
fn named(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in behind(code, "crate") {
        let Some(rest) = rest.strip_prefix("::") else { continue };
        if let Some(list) = rest.strip_prefix('{') {
            rooms.extend(firsts(list));
        } else {
            rooms.push(rest.chars().take_while(|&c| is_word(c)).collect());
        }
    }
    rooms
}

/// The first word of each entry of a list in braces, of which the opening one is gone.
fn firsts(list: &str) -> Vec<String> {
    let (mut depth, mut entries) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(String::new()),
            _ if depth == 0 => entries.last_mut().expect("never empty").push(c),
            _ => {}
        }
    }
    let first = |entry: &String| entry.trim().chars().take_while(|&c| is_word(c)).collect();
    entries.iter().map(first).filter(|room: &String| !room.is_empty()).collect()
}

/// Fails with every complaint, or not at all.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_reader_of_paths_reads_paths() {
    let code =
        "use crate::{a::B, c::{D, e}, f};\nlet _ = crate::g::h();\nmycrate::x; pub(crate) fn";
    assert_eq!(named(code), ["a", "c", "f", "g"]);
    assert_eq!(uncommented("a // crate::b"), "a ");
    assert_eq!(behind("libc::x; xlibc; libc_y", "libc").count(), 1);
    assert!(may_name("endpoint", "os") && !may_name("os", "endpoint"));
    assert!(may_name("region", "os") && !may_name("options", "os"));
}

#[test]
fn every_room_has_a_layer_and_every_layer_has_its_rooms() {
    let mut found = BTreeMap::new();
    for page in pages().iter().filter(|page| page.path != "lib.rs") {
        layer(page.room());
        *found.entry(page.room().to_owned()).or_insert(0) += 1;
    }
    let missing = ROOMS.iter().filter(|(room, _)| !found.contains_key(*room));
    none(missing.map(|(room, _)| format!("src has no {room}")).collect());
}

#[test]
fn no_room_names_one_that_is_above_it() {
    let mut complaints = Vec::new();
    let mut arrows = 0;
    for page in pages().iter().filter(|page| page.path != "lib.rs") {
        for to in named(&page.code) {
            arrows += 1;
            if !may_name(page.room(), &to) {
                complaints.push(format!("src/{} names crate::{to}, which is above it", page.path));
            }
        }
        if page.code.contains("super::super") {
            complaints.push(format!("src/{} climbs out of its room by super::super", page.path));
        }
    }
    assert!(arrows > 50, "only {arrows} paths were found");
    none(complaints);
}

#[test]
fn only_the_ground_names_the_kernel_and_the_processor() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for page in &pages() {
        let mut only = |what: &str, folder: &str, named: bool| {
            seen += usize::from(named);
            if named && !page.is_in(folder) {
                complaints
                    .push(format!("src/{} names {what}, which only src/{folder} may", page.path));
            }
        };
        only("libc", "os/", behind(&page.code, "libc").count() != 0);
        only(
            "sync::atomic",
            "sync/",
            ["std::sync::atomic", "core::sync::atomic"].iter().any(|path| page.code.contains(path)),
        );
        let checkers = ["loom", "shuttle"];
        let model =
            checkers.iter().any(|name| behind(&page.code, name).any(|rest| rest.starts_with("::")));
        only("a model checker", "sync/", model);
    }
    assert!(seen > 5, "only {seen} files name any of them");
    none(complaints);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    const HOLDERS: [&str; 8] = [
        "sync/",
        "os/",
        "layout/view.rs",
        "layout/view_model.rs",
        "region.rs",
        "inspect.rs",
        "spsc.rs",
        "mpmc.rs",
    ];
    let strangers = pages().into_iter().filter(|page| {
        let holds = behind(&page.code, "unsafe").count() != 0;
        holds && !HOLDERS.iter().any(|holder| page.is_in(holder))
    });
    none(strangers.map(|page| format!("src/{} holds unsafe", page.path)).collect());
}

#[test]
fn every_file_opens_by_saying_what_it_knows() {
    let pages = pages();
    let silent = pages.iter().filter(|page| !page.text.starts_with("//!"));
    none(silent.map(|page| format!("src/{} does not open with //!", page.path)).collect());
}
