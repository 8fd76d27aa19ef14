
// What follows exists only in the copy of the source that has switches.

/// Whether mutant `number` acts in this run: the one that `MODEL_MUTANT` names. The first time that a run asks, the number
/// is appended to the file that `MODEL_SURVEY` names.
pub fn mutant(number: usize) -> bool {
    use std::io::Write;
    use std::sync::{LazyLock, Mutex};
    static CHOSEN: LazyLock<Option<usize>> = LazyLock::new(|| {
        let number = std::env::var("MODEL_MUTANT").ok()?;
        Some(number.parse().unwrap_or_else(|_| {
            eprintln!("MODEL_MUTANT is a number");
            std::process::exit(64)
        }))
    });
    static SURVEY: LazyLock<Option<Mutex<(std::fs::File, Vec<usize>)>>> = LazyLock::new(|| {
        let path = std::env::var_os("MODEL_SURVEY")?;
        let file = std::fs::File::options().create(true).append(true).open(path);
        Some(Mutex::new((file.expect("a file"), Vec::new())))
    });
    if let Some(survey) = &*SURVEY {
        let (file, seen) = &mut *survey.lock().unwrap_or_else(|poison| poison.into_inner());
        if !seen.contains(&number) {
            seen.push(number);
            writeln!(file, "mutant:{number}").expect("written");
        }
    }
    *CHOSEN == Some(number)
}
