//! The atomic accesses and fences of a source file.
//!
//! Knows how an access is written, that the comment above it begins with a row of docs/memory-ordering.md, and which
//! orderings are weaker than which. Knows nothing of models.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use proc_macro2::{LineColumn, TokenStream, TokenTree};
use regex::Regex;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The files of `src/` whose accesses make the ring: everything else is the ground, or news.
pub(crate) const FILES: [&str; 11] = [
    "ring/spsc.rs",
    "ring/mpmc.rs",
    "wake.rs",
    "roster.rs",
    "seats.rs",
    "recovery.rs",
    "link.rs",
    "party.rs",
    "blocking.rs",
    "spsc.rs",
    "mpmc.rs",
];

/// The names of the operations on an atomic.
const OPERATIONS: [&str; 11] = [
    "load",
    "store",
    "swap",
    "fetch_or",
    "fetch_and",
    "fetch_add",
    "fetch_sub",
    "fetch_max",
    "fetch_min",
    "compare_exchange",
    "compare_exchange_weak",
];

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// Where the run time says that an access stands: both are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    fn of(at: LineColumn) -> Place {
        Place { line: at.line, column: at.column + 1 }
    }
}

/// An access whose ordering is more than Relaxed, or a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Below `src/`.
    pub(crate) file: String,
    /// The function that it stands in.
    pub(crate) function: String,
    /// The row that its comment cites.
    pub(crate) row: Option<String>,
    /// `load`, `store`, ..., `fence` or `light fence`.
    pub(crate) operation: String,
    /// Its ordering; on success, for an exchange.
    pub(crate) order: String,
    /// Which one it is among those that are otherwise the same.
    pub(crate) ordinal: usize,
    pub(crate) place: Place,
    /// What is wrong with its comment.
    pub(crate) complaint: Option<String>,
}

/// Its name, which survives that lines are added or moved.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row.as_deref().unwrap_or("-");
        write!(f, "{} {row} {} {}", self.function, self.operation, self.order)?;
        if self.ordinal > 1 { write!(f, " #{}", self.ordinal) } else { Ok(()) }
    }
}

impl Access {
    /// What may be put in the place of its ordering.
    pub(crate) fn weaker(&self) -> &'static [&'static str] {
        match (self.operation.as_str(), self.order.as_str()) {
            ("fence" | "light fence", "SeqCst") => &["AcqRel", "nothing"],
            ("fence", "AcqRel") => &["Acquire", "Release", "nothing"],
            ("fence", _) => &["nothing"],
            ("load" | "store", "SeqCst") => &["Relaxed"],
            (_, "SeqCst") => &["AcqRel"],
            (_, "AcqRel") => &["Acquire", "Release"],
            _ => &["Relaxed"],
        }
    }
}

/// The places of all accesses of a file whose `text` this is, Relaxed ones too.
pub(crate) fn places(file: &str, text: &str) -> Result<BTreeSet<Place>> {
    Ok(find(file, text)?.into_iter().map(|seen| seen.place).collect())
}

fn find(file: &str, text: &str) -> Result<Vec<Seen>> {
    let parsed = syn::parse_file(text).with_context(|| format!("src/{file} is no Rust"))?;
    let mut found = Finder { function: Vec::new(), begins: 1, found: Vec::new(), lost: Vec::new() };
    found.visit_file(&parsed);
    if let Some(line) = found.lost.first() {
        anyhow::bail!("src/{file}:{line}: an ordering that no access is seen to have");
    }
    Ok(found.found)
}

/// All accesses of a file whose `text` this is that are more than Relaxed. `rows` are those that docs/memory-ordering.md has.
pub(crate) fn scan(file: &str, text: &str, rows: &BTreeSet<String>) -> Result<Vec<Access>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut ordinals = BTreeMap::new();
    let mut accesses = Vec::new();
    for seen in find(file, text)?.into_iter().filter(|seen| seen.order != "Relaxed") {
        let comment = comment_above(&lines, seen.place.line, seen.begins);
        let row = comment.as_deref().and_then(row_of);
        let complaint = complaint(&seen, comment.as_deref(), row.as_deref(), rows);
        let mut access = Access {
            file: file.to_owned(),
            function: seen.function,
            row,
            operation: seen.operation,
            order: seen.order,
            ordinal: 1,
            place: seen.place,
            complaint,
        };
        let same = ordinals.entry(access.to_string()).or_insert(0);
        *same += 1;
        access.ordinal = *same;
        accesses.push(access);
    }
    Ok(accesses)
}

/// The names of the rows of docs/memory-ordering.md, whose `text` this is.
pub(crate) fn rows(text: &str) -> BTreeSet<String> {
    let row = Regex::new(r"(?m)^\| ([A-Z]+[0-9]+'?) \|").expect("a pattern");
    row.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The row that a comment begins with.
fn row_of(comment: &str) -> Option<String> {
    static ROW: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^([A-Z]+[0-9]+'?)[ ,:]").expect("a pattern"));
    ROW.captures(comment).map(|found| found[1].to_owned())
}

/// Whether a line names a row and an ordering at its beginning.
fn begins_with_row_and_ordering(line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let is_row = words.next().is_some_and(|word| row_of(&format!("{word} ")).is_some());
    is_row && words.next().is_some_and(|word| word == "fence" || ORDERINGS.contains(&word))
}

/// Whether a text has this word, or its plural.
fn says(text: &str, word: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|there| there == word || there.strip_suffix('s') == Some(word))
}

/// What is wrong with the comment of an access.
fn complaint(
    seen: &Seen,
    comment: Option<&str>,
    row: Option<&str>,
    rows: &BTreeSet<String>,
) -> Option<String> {
    let Some(comment) = comment else { return Some(String::from("it has no comment")) };
    let word = if seen.operation.ends_with("fence") { "fence" } else { &seen.order };
    match row {
        _ if !says(comment, word) => Some(format!("its comment says nothing of its {word}")),
        None => Some(String::from("its comment does not begin with a row")),
        Some(row) if !rows.contains(row) => {
            Some(format!("docs/memory-ordering.md has no row {row}"))
        }
        Some(_) => None,
    }
}

/// The nearest comment above `line`, not above the line where its function begins.
fn comment_above(lines: &[&str], line: usize, begins: usize) -> Option<String> {
    let is_comment = |line: usize| {
        let text = lines[line - 1].trim_start();
        text.starts_with("//") && !text.starts_with("///") && !text.starts_with("//!")
    };
    let last = (begins..line).rev().find(|&line| is_comment(line))?;
    let first = (begins..=last).rev().take_while(|&line| is_comment(line)).last()?;
    let text: Vec<&str> =
        lines[first - 1..last].iter().map(|line| line.trim_start()[2..].trim()).collect();
    // What says which row it is may be a paragraph of its own, the last one.
    let from = text.iter().rposition(|line| begins_with_row_and_ordering(line)).unwrap_or(0);
    Some(text[if row_of(text[0]).is_some() { 0 } else { from }..].join(" "))
}

/// An access as it is written.
struct Seen {
    function: String,
    /// The line on which its function begins.
    begins: usize,
    operation: String,
    order: String,
    place: Place,
}

struct Finder {
    /// The names around the expression that is looked at.
    function: Vec<String>,
    begins: usize,
    found: Vec<Seen>,
    /// Lines with an ordering inside a macro: nobody would miss such an access.
    lost: Vec<usize>,
}

impl Finder {
    fn within(&mut self, name: String, begins: usize, visit: impl FnOnce(&mut Self)) {
        self.function.push(name);
        let before = std::mem::replace(&mut self.begins, begins);
        visit(self);
        self.begins = before;
        self.function.pop();
    }

    fn note(&mut self, operation: &str, order: String, place: LineColumn) {
        self.found.push(Seen {
            function: self.function.join("::"),
            begins: self.begins,
            operation: operation.to_owned(),
            order,
            place: Place::of(place),
        });
    }

    fn look_for_orderings(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.look_for_orderings(group.stream()),
                TokenTree::Ident(name) if ORDERINGS[1..].contains(&name.to_string().as_str()) => {
                    self.lost.push(name.span().start().line);
                }
                _ => {}
            }
        }
    }
}

/// The name of an ordering, if the expression is one.
fn ordering(expression: &syn::Expr) -> Option<String> {
    let syn::Expr::Path(path) = expression else { return None };
    let name = path.path.segments.last()?.ident.to_string();
    ORDERINGS.contains(&name.as_str()).then_some(name)
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let tokens = list.tokens.to_string();
        list.path.is_ident("cfg") && says(&tokens, "test") && !tokens.starts_with("not")
    })
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let mut of = &*item.self_ty;
        while let syn::Type::Reference(reference) = of {
            of = &*reference.elem;
        }
        let name = match of {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        self.within(name.unwrap_or_default(), item.span().start().line, |finder| {
            visit::visit_item_impl(finder, item);
        });
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(item.sig.ident.to_string(), item.sig.span().start().line, |finder| {
            visit::visit_item_fn(finder, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(item.sig.ident.to_string(), item.sig.span().start().line, |finder| {
            visit::visit_impl_item_fn(finder, item);
        });
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        // The receiver first: accesses are numbered as they are read.
        visit::visit_expr_method_call(self, call);
        let name = call.method.to_string();
        let mut orders = call.args.iter().filter_map(ordering);
        if let Some(order) = orders.next() {
            if OPERATIONS.contains(&name.as_str()) {
                let place = call.method.span().start();
                self.note(&name, order, place);
                // An exchange that fails is a load of its own.
                if orders.next().is_some_and(|failure| failure != "Relaxed") {
                    self.lost.push(place.line);
                }
            } else {
                self.lost.push(call.span().start().line);
            }
        } else if name == "run" && call.args.is_empty() && is_light(&call.receiver) {
            self.note("light fence", String::from("SeqCst"), call.method.span().start());
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        visit::visit_expr_call(self, call);
        if let Some(order) = call.args.iter().find_map(ordering) {
            let syn::Expr::Path(path) = &*call.func else { return };
            let name = path.path.segments.last().map(|last| last.ident.to_string());
            match name.as_deref() {
                Some("fence") => self.note("fence", order, call.span().start()),
                _ => self.lost.push(call.span().start().line),
            }
        }
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.look_for_orderings(item.tokens.clone());
    }
}

/// Whether this is what is called a light fence: a variable or a field of that name.
fn is_light(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Path(path) => path.path.is_ident("light"),
        syn::Expr::Field(field) => {
            matches!(&field.member, syn::Member::Named(name) if name == "light")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Vec<Access> {
        let rows = ["S3", "R0'", "W2", "M2"].map(String::from).into();
        scan("x.rs", text, &rows).expect("Rust")
    }

    fn complaints(text: &str) -> Vec<Option<String>> {
        scanned(text).into_iter().map(|access| access.complaint).collect()
    }

    #[test]
    fn an_access_is_named_by_its_function_its_row_and_what_it_does() {
        let text = "impl Producer {
    fn publish(&mut self) {
        // S3 Release: pairs with R0.
        self.view.line(self.tail).store(first, Release);
        // Relaxed: news.
        self.view.word(TAIL).store(end, Relaxed);
    }
}";
        let [access] = &scanned(text)[..] else { panic!("one") };
        assert_eq!(access.to_string(), "Producer::publish S3 store Release");
        assert_eq!(access.place, Place { line: 4, column: 35 });
        assert_eq!((access.complaint.as_deref(), access.weaker()), (None, &["Relaxed"][..]));
    }

    #[test]
    fn a_name_survives_lines_that_are_added_above_it() {
        let text = "fn f() {\n    // R0' Acquire: pairs.\n    a.load(Acquire);\n}";
        let names = |text: &str| scanned(text)[0].to_string();
        assert_eq!(names(text), names(&format!("// More.\nfn g() {{}}\n\n{text}")));
    }

    #[test]
    fn accesses_that_are_otherwise_the_same_are_numbered_in_order() {
        let text = "fn f() {
    // M2 AcqRel, both: pairs.
    if a.compare_exchange(x, y, AcqRel, Relaxed).is_ok() {
        b.compare_exchange(x, y, AcqRel, Relaxed).ok();
    }
}";
        let names: Vec<_> = scanned(text).iter().map(Access::to_string).collect();
        assert_eq!(names, ["f M2 compare_exchange AcqRel", "f M2 compare_exchange AcqRel #2"]);
        assert_eq!(scanned(text)[0].weaker(), ["Acquire", "Release"]);
    }

    #[test]
    fn the_nearest_comment_counts_and_one_of_another_function_does_not() {
        let text = "fn f() {
    // S3 Release: this.
    // On two lines.
    let a = 1;
    // Something else.
    b.store(a, Release);
}
// S3 Release: outside.
fn g() {
    b.store(1, Release);
}";
        assert_eq!(
            complaints(text),
            [
                Some("its comment says nothing of its Release".into()),
                Some("it has no comment".into())
            ]
        );
    }

    #[test]
    fn the_row_may_begin_the_last_paragraph_of_a_comment() {
        let text = "fn f() {
    // Nobody sleeps any more.
    // S3 Release: this.
    b.store(a, Release);
}";
        assert_eq!(scanned(text)[0].to_string(), "f S3 store Release");
    }

    #[test]
    fn a_comment_without_a_row_or_with_one_that_does_not_exist_is_complained_of() {
        let text = "fn f() {
    // Release: pairs with something.
    a.store(1, Release);
    // S9 Release: pairs with something.
    a.store(1, Release);
    // S3 Acquire: the wrong one.
    a.store(1, Release);
}";
        assert_eq!(
            complaints(text),
            [
                Some("its comment does not begin with a row".into()),
                Some("docs/memory-ordering.md has no row S9".into()),
                Some("its comment says nothing of its Release".into()),
            ]
        );
    }

    #[test]
    fn fences_of_both_kinds_are_accesses() {
        let text = "fn f() {
    // W2 AcqRel; the fence orders it.
    sync::fence(SeqCst);
    self.light.run();
    other.run();
}";
        let names: Vec<_> = scanned(text).iter().map(Access::to_string).collect();
        assert_eq!(names, ["f W2 fence SeqCst", "f W2 light fence SeqCst"]);
        assert_eq!(scanned(text)[0].place, Place { line: 3, column: 5 });
        assert_eq!(scanned(text)[1].weaker(), ["AcqRel", "nothing"]);
    }

    #[test]
    fn tests_are_left_out_and_nothing_else_is() {
        let text = "fn f() { a.load(Acquire); }
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests { fn g() { a.load(Acquire); } }
#[cfg(not(test))]
mod real { fn h() { a.load(Acquire); } }";
        assert_eq!(scanned(text).len(), 2);
    }

    #[test]
    fn an_ordering_that_no_access_has_is_an_error_and_not_overlooked() {
        let scan = |text| scan("x.rs", text, &BTreeSet::new());
        assert!(scan("fn f() { assert!(a.load(Acquire) == 1); }").is_err());
        assert!(scan("fn f() { a.fetch_nand(1, Acquire); }").is_err());
        assert!(scan("fn f() { g(&a, Acquire); }").is_err());
        assert!(scan("fn f() { a.compare_exchange(1, 2, AcqRel, Acquire).ok(); }").is_err());
        assert!(scan("fn f() { a.load(Relaxed); }").is_ok());
    }

    #[test]
    fn the_rows_are_read_from_the_tables() {
        let text = "| row | access |\n|---|---|\n| S3 | store |\n| R0' | load |\n\nS4 is text.";
        assert!(rows(text).into_iter().eq(["R0'", "S3"].map(String::from)));
    }
}
