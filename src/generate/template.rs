//! Chat templates, which model folders have in Jinja's language. They are programs of
//! other people: what they may do, and for how long, is bounded.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Map;

use crate::outside::guarded;

/// Steps that a template may take. That of the tests takes 70.
const FUEL: u64 = 100_000;

/// What a template makes of messages; `marks`: the special tokens by their names.
/// Settings are those of transformers' renderer.
pub(super) fn render(
    template: &str,
    messages: serde_json::Value,
    marks: &Map<String, serde_json::Value>,
) -> Result<String, String> {
    let unusable = |problem: Error| format!("is a template that cannot be used: {problem}");
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(unusable)?);
    // Templates are written for Python, whose texts and lists have methods.
    environment.set_unknown_method_callback(unknown_method_callback);
    let raise = |what: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, what))
    };
    environment.add_function("raise_exception", raise);
    let mut context = marks.clone();
    context.insert("messages".into(), messages);
    context.insert("add_generation_prompt".into(), true.into());
    environment.set_fuel(Some(FUEL));
    let rendered = guarded("minijinja", || {
        environment.render_str(template, Serde(context))
    });
    rendered
        .map_err(|problem| problem.to_string())?
        .map_err(unusable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let marks = json!({"bos_token": "<s>"});
        let messages =
            json!([{"role": "user", "content": [{"type": "text", "punctuation": true}]}]);
        render(template, messages, marks.as_object().unwrap())
    }

    #[test]
    fn templates_mean_what_they_mean_to_transformers() {
        let template = "{% for m in messages %}\n  {% for c in m.content %}\n\
                        {{ bos_token }}{{ c.type.upper() }}{% if c['punctuation'] %}.{% endif %}\n\
                        {% endfor %}\n{%- endfor %}\n";
        // Checked with jinja2 3.1.6 and the settings of transformers' renderer.
        assert_eq!(rendered(template).unwrap(), "<s>TEXT.");
        assert_eq!(
            rendered("{{ absent }}{{ add_generation_prompt }}").unwrap(),
            "True"
        );
        for (template, words) in [
            ("{{ raise_exception('never') }}", "never"),
            ("{% for %}", "syntax error"),
            (
                "{% for i in range(1000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}",
                "out of fuel",
            ),
        ] {
            let message = rendered(template).unwrap_err();
            assert!(
                message.contains(words) && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
