//! What fields a JSON document has, for tests that hold a description to it.

use serde_json::Value;

/// Paths of all fields, lists as `name[]`.
pub fn fields(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                out.push(path.clone());
                fields(inner, &path, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                fields(item, &format!("{path}[]"), out);
            }
        }
        _ => {}
    }
}
