//! Mutants of the protocol: pieces of the code that are replaced by what a wrong maintainer would write.
//!
//! Knows how to find a piece by its text, and how to lay any number of them, one inside another, into one copy of a file as
//! switches. Knows nothing of what the pieces mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The list of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// What it does wrong, in a few words: its name.
    pub(crate) name: String,
    /// Below `src/`.
    pub(crate) file: String,
    /// What is replaced; all of it, or what stands between `«` and `»`. It occurs once, but for spaces, line breaks and
    /// comments.
    code: String,
    /// What stands there instead. Nothing, if the piece is to be left out.
    #[serde(default)]
    instead: String,
    /// Other places of the file that change with it: a step that is moved leaves one place and comes to another.
    #[serde(default)]
    also: Vec<Change>,
    /// What it breaks.
    pub(crate) why: String,
    /// The row of docs/memory-ordering.md or docs/crash-safety.md that it breaks, where there is one.
    #[serde(default)]
    pub(crate) row: Option<String>,
    /// The tests of harnesses that have to fail with it. A mutant for models has none: `known.toml` says who catches it.
    #[serde(default)]
    pub(crate) caught: Vec<Catch>,
}

/// A test that has to fail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catch {
    /// Its program and its name.
    pub(crate) by: String,
    /// A pattern of a line that it says when it fails as it should.
    pub(crate) says: String,
}

/// A piece that is replaced: as in [`Mutant`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    code: String,
    #[serde(default)]
    instead: String,
}

/// Reads the list.
pub(crate) fn parse(text: &str) -> Result<Vec<Mutant>> {
    let List { mutant: mutants } = toml::from_str(text)?;
    let mut names = BTreeSet::new();
    for mutant in &mutants {
        ensure!(names.insert(&mutant.name), "two mutants are called {:?}", mutant.name);
        ensure!(!mutant.why.is_empty(), "{:?} does not say what it breaks", mutant.name);
    }
    Ok(mutants)
}

/// A piece of a text and what may stand there instead.
#[derive(Debug)]
struct Switch<'a> {
    number: usize,
    name: &'a str,
    range: Range<usize>,
    instead: &'a str,
}

/// The text of `file` with a switch for each of its `mutants`, whose numbers are given.
pub(crate) fn apply(file: &str, text: &str, mutants: &[(usize, &Mutant)]) -> Result<String> {
    let mut switches = Vec::new();
    for &(number, mutant) in mutants {
        let name = mutant.name.as_str();
        let others = mutant.also.iter().map(|change| (&change.code, &change.instead));
        for (code, instead) in std::iter::once((&mutant.code, &mutant.instead)).chain(others) {
            let range = find(code, text)
                .with_context(|| format!("src/{file}, mutant {name:?}: {}", code.trim()))?;
            switches.push(Switch { number, name, range, instead: instead.trim() });
        }
    }
    // Whoever is around another comes before it; of two with the same piece the first in the list is around the second.
    switches.sort_by_key(|switch| (switch.range.start, std::cmp::Reverse(switch.range.end)));
    for (at, inner) in switches.iter().enumerate() {
        for outer in &switches[..at] {
            let apart = outer.range.end <= inner.range.start;
            let within = inner.range.end <= outer.range.end;
            if !apart && !within {
                bail!(
                    "src/{file}: the mutants {:?} and {:?} cut each other",
                    outer.name,
                    inner.name
                );
            }
        }
    }
    Ok(lay(text, 0..text.len(), &switches))
}

/// The part `range` of the text with `switches`, which are sorted and lie within it.
fn lay(text: &str, range: Range<usize>, mut switches: &[Switch<'_>]) -> String {
    let (mut laid, mut at) = (String::new(), range.start);
    while let Some((outer, rest)) = switches.split_first() {
        let within = rest.partition_point(|inner| inner.range.start < outer.range.end);
        let (inner, behind) = rest.split_at(within);
        laid.push_str(&text[at..outer.range.start]);
        let original = lay(text, outer.range.clone(), inner);
        let Switch { number, instead, .. } = outer;
        let is_statement = text[outer.range.clone()].ends_with([';', '}']);
        let (open, close) = if is_statement { ("", "") } else { ("(", ")") };
        laid.push_str(&format!(
            "{open}if crate::sync::mutant({number}) {{ {instead} }} else {{ {original} }}{close}"
        ));
        at = outer.range.end;
        switches = behind;
    }
    laid.push_str(&text[at..range.end]);
    laid
}

/// Where a piece lies.
fn find(code: &str, text: &str) -> Result<Range<usize>> {
    let (before, rest) = code.split_once('«').unwrap_or(("", code));
    let (piece, behind) = rest.split_once('»').unwrap_or((rest, ""));
    let [before, piece, behind] = [before, piece, behind]
        .map(|code| tokens(code).into_iter().map(|token| &code[token]).collect::<Vec<&str>>());
    ensure!(!piece.is_empty(), "it replaces nothing");
    let (first, last) = (before.len(), before.len() + piece.len() - 1);
    let wanted = [before, piece, behind].concat();
    let there = tokens(text);
    let mut found = there.windows(wanted.len()).filter(|window| {
        window.iter().zip(&wanted).all(|(token, word)| text[token.clone()] == **word)
    });
    match (found.next(), found.next()) {
        (Some(window), None) => Ok(window[first].start..window[last].end),
        (None, _) => bail!("its text does not occur"),
        (Some(_), Some(_)) => bail!("its text occurs more than once"),
    }
}

/// The words and signs of a piece of code, without spaces and comments.
fn tokens(code: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if is_word(c) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            c.len_utf8()
        };
        if !c.is_whitespace() && !rest.starts_with("//") {
            tokens.push(at..at + len);
        }
        at += len;
    }
    tokens
}

/// The mutants by file, each with its number in the list.
pub(crate) fn by_file(mutants: &[Mutant]) -> BTreeMap<&str, Vec<(usize, &Mutant)>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        files.entry(mutant.file.as_str()).or_default().push((number, mutant));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, code: &str, instead: &str) -> Mutant {
        Mutant {
            name: name.into(),
            file: "x.rs".into(),
            code: code.into(),
            instead: instead.into(),
            also: Vec::new(),
            why: "it breaks".into(),
            row: None,
            caught: Vec::new(),
        }
    }

    fn laid(text: &str, mutants: &[Mutant]) -> Result<String> {
        apply("x.rs", text, &mutants.iter().enumerate().collect::<Vec<_>>())
    }

    #[test]
    fn a_piece_is_found_whatever_its_spaces_and_comments() {
        let text =
            "fn f() {\n    // One.\n    a(\n        1, // two\n        2,\n    );\n    b();\n}";
        let laid = laid(text, &[mutant("m", "a(1, 2,); b();", "c();")]).expect("applies");
        assert!(laid.starts_with("fn f() {\n    // One.\n    if crate::sync::mutant(0) { c(); }"));
        assert!(laid.ends_with("else { a(\n        1, // two\n        2,\n    );\n    b(); }\n}"));
    }

    #[test]
    fn words_do_not_run_into_each_other() {
        assert!(laid("letx = 1;", &[mutant("m", "let x", "y")]).is_err());
        assert!(laid("let  x = 1;", &[mutant("m", "let x", "y")]).is_ok());
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "if a == b { c() } if a == d { c() }";
        let laid = laid(text, &[mutant("m", "if «a == d» {", "true")]).expect("applies");
        assert_eq!(
            laid,
            "if a == b { c() } if (if crate::sync::mutant(0) { true } else { a == d }) { c() }"
        );
    }

    #[test]
    fn pieces_may_lie_within_each_other_and_the_inner_ones_act_where_the_outer_do_not() {
        let text = "a(); b(); c();";
        let mutants = [mutant("b", "b();", ""), mutant("ab", "a(); b();", "b(); a();")];
        assert_eq!(
            laid(text, &mutants).expect("applies"),
            "if crate::sync::mutant(1) { b(); a(); } else \
             { a(); if crate::sync::mutant(0) {  } else { b(); } } c();"
        );
    }

    #[test]
    fn one_piece_may_have_several_mutants() {
        let mutants = [mutant("one", "a + b", "a"), mutant("two", "a + b", "b")];
        assert_eq!(
            laid("x = a + b;", &mutants).expect("applies"),
            "x = (if crate::sync::mutant(0) { a } else \
             { (if crate::sync::mutant(1) { b } else { a + b }) });"
        );
    }

    #[test]
    fn a_step_that_is_moved_changes_two_places_at_once() {
        let mut moved = mutant("m", "a();", "");
        moved.also.push(Change { code: "«c» + d;".into(), instead: "{ a(); c }".into() });
        assert_eq!(
            laid("a(); b(); c + d;", &[moved]).expect("applies"),
            "if crate::sync::mutant(0) {  } else { a(); } b(); \
             (if crate::sync::mutant(0) { { a(); c } } else { c }) + d;"
        );
    }

    #[test]
    fn pieces_that_cut_each_other_are_refused() {
        let mutants = [mutant("one", "a(); b();", ""), mutant("two", "b(); c();", "")];
        let error = laid("a(); b(); c();", &mutants).expect_err("they overlap").to_string();
        assert!(error.contains("\"one\" and \"two\" cut each other"), "{error}");
    }

    #[test]
    fn a_piece_that_does_not_occur_or_occurs_twice_is_refused() {
        let error =
            |code| format!("{:#}", laid("a(); a();", &[mutant("m", code, "")]).unwrap_err());
        assert!(error("b();").contains("does not occur"));
        assert!(error("a();").contains("more than once"));
    }

    #[test]
    fn a_list_with_a_name_twice_or_without_a_reason_is_refused() {
        let entry = |name: &str, why: &str| {
            format!("[[mutant]]\nname = '{name}'\nfile = 'x.rs'\ncode = 'a'\nwhy = '{why}'\n")
        };
        assert!(parse(&entry("a", "b")).is_ok());
        assert!(parse(&(entry("a", "b") + &entry("a", "c"))).is_err());
        assert!(parse(&entry("a", "")).is_err());
        assert!(parse(&(entry("a", "b") + "more = 1\n")).is_err());
    }
}
