//! JSON values as Markdown tables.

use serde_json::Value;

/// Most characters of a cell; the rest is in the file.
const CELL: usize = 200;

/// A list of objects as a table: one column for each key that holds a plain value.
pub(super) fn of(rows: &[Value]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for (key, value) in row {
            let plain = !value.is_object() && !value.is_array();
            if plain && !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    if columns.is_empty() {
        return String::new();
    }
    // What it is about comes first.
    let names = ["name", "class", "mode", "section", "mutant", "what", "file"];
    columns.sort_by_key(|column| {
        names
            .iter()
            .position(|n| n == column)
            .unwrap_or(names.len())
    });
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(
        columns
            .iter()
            .map(|column| column.replace('_', " "))
            .collect(),
    );
    text += &line(columns.iter().map(|_| "---".to_owned()).collect());
    for row in rows {
        let cells = columns.iter().map(|column| cell(&row[*column]));
        text += &line(cells.collect());
    }
    text
}

/// The plain values of an object as a table of one row.
pub(super) fn of_one(row: &Value) -> String {
    of(std::slice::from_ref(row))
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.replace('|', "\\|").replace(['\n', '\r'], " "),
        Value::Number(number) => match number.as_f64() {
            Some(fraction) if !number.is_u64() && !number.is_i64() => format!("{fraction:.2}"),
            _ => number.to_string(),
        },
        _ => "...".to_owned(),
    };
    text.chars().take(CELL).collect()
}
