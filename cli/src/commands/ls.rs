//! `quoit ls`: the rings of the folder of plain names.

use comfy_table::CellAlignment;
use serde_json::Value;

use crate::exit::{self, End};
use crate::picture;

/// List the rings of the user's folder
///
/// With --json, an array: for each ring the fields of `quoit stat --json`; for
/// a file that cannot be read as a ring `name`, `error` and `code` (the exit
/// status that `quoit stat` would have).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let rings = quoit::list()?;
    if args.json {
        let rings = rings
            .iter()
            .map(|ring| match &ring.info {
                Ok(info) => serde_json::to_value(picture::Ring::from(info)),
                Err(error) => serde_json::to_value(picture::Unreadable::new(&ring.name, error)),
            })
            .collect::<Result<Vec<Value>, _>>()?;
        picture::print_json(&rings)?;
        return Ok(End::Done);
    }

    let mut table = quoit_measure::sheet();
    table.set_header(["NAME", "KIND", "CAPACITY", "USED", "SENDER", "RECEIVER", "MESSAGES"]);
    for index in [2, 3, 6] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut unreadable = Vec::new();
    for ring in &rings {
        match &ring.info {
            Ok(info) => {
                table.add_row([
                    exit::plain(&ring.name),
                    picture::kind(info.kind).into(),
                    picture::room(info, info.capacity),
                    picture::room(info, info.used),
                    picture::end(info, "sender", &info.sender),
                    picture::end(info, "receiver", &info.receiver),
                    info.sender.messages.to_string(),
                ]);
            }
            Err(error) => unreadable.push(format!("{}: {error}", ring.name)),
        }
    }
    let mut text = quoit_measure::lines(&table);
    for line in unreadable {
        text.push_str(&exit::plain(&line));
        text.push('\n');
    }
    picture::print(text.as_bytes())?;
    Ok(End::Done)
}
