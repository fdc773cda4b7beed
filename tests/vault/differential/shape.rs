//! What two answers have in common but their values.

use std::collections::BTreeMap;

use serde_json::Value;

/// Each field of a body with its type; of a list, that of its first element.
fn fields(body: &str) -> BTreeMap<String, &'static str> {
    let mut all = BTreeMap::new();
    match serde_json::from_str::<Value>(body) {
        Ok(value) => walk(&mut all, "", &value),
        Err(_) if body.is_empty() => {
            all.insert("body".to_owned(), "empty");
        }
        Err(_) if body.starts_with("-----BEGIN CERTIFICATE-----") => {
            all.insert("body".to_owned(), "PEM");
        }
        Err(_) => {
            all.insert("body".to_owned(), "other");
        }
    }
    all
}

fn walk(all: &mut BTreeMap<String, &'static str>, at: &str, value: &Value) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    if !at.is_empty() {
        all.insert(at.to_owned(), kind);
    }
    let below = |name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}.{name}"),
    };
    match value {
        // What is keyed by names or ids has one shape.
        Value::Object(fields) if at.ends_with("key_info") => {
            if let Some(value) = fields.values().next() {
                walk(all, &below("ID"), value);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(all, &below(name), value);
            }
        }
        Value::Array(list) => {
            if let Some(value) = list.first() {
                walk(all, &below("0"), value);
            }
        }
        _ => {}
    }
}

/// What differs: OpenBao's before the arrow, this server's after it.
pub fn differences(theirs: &(u16, String), own: &(u16, String)) -> Vec<String> {
    let mut all = Vec::new();
    if theirs.0 != own.0 {
        all.push(format!("status {} → {}", theirs.0, own.0));
    }
    // An error has one shape, and success another: of both the status says all.
    if (theirs.0 < 300) != (own.0 < 300) {
        return all;
    }
    let (theirs, own) = (fields(&theirs.1), fields(&own.1));
    let mut names: Vec<&String> = theirs.keys().chain(own.keys()).collect();
    names.sort();
    names.dedup();
    let mut missing: Vec<&str> = Vec::new();
    for name in names {
        // What is below a field that is not there needs no line of its own.
        if missing.iter().any(|above| {
            name.strip_prefix(above)
                .is_some_and(|rest| rest.starts_with('.'))
        }) {
            continue;
        }
        let (their, our) = (theirs.get(name), own.get(name));
        if their != our {
            missing.push(name);
            let (their, our) = (their.unwrap_or(&"none"), our.unwrap_or(&"none"));
            all.push(format!("{name} {their} → {our}"));
        }
    }
    all
}
