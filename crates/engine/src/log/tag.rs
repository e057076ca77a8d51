//! Tags: text in which `{{.Name}}` and its like stand for what a container is.

use super::about::About;
use crate::Error;

/// Fills a tag in. Docker takes Go's templates; fields and the functions that
/// take one of them are what tags are made of.
pub(super) fn render(template: &str, about: &About) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, after)) = after.split_once("}}") else {
            return Err(Error::invalid(format!("template: log-tag:1: unclosed action in {template:?}")));
        };
        // `{{-` and `-}}` eat the space around them.
        let (trim_left, action) = action.strip_prefix("- ").map_or((false, action), |a| (true, a));
        let (trim_right, action) = action.strip_suffix(" -").map_or((false, action), |a| (true, a));
        out.push_str(if trim_left { before.trim_end() } else { before });
        out.push_str(&evaluate(action.trim(), about)?);
        rest = if trim_right { after.trim_start() } else { after };
    }
    out.push_str(rest);
    Ok(out)
}

fn evaluate(action: &str, about: &About) -> Result<String, Error> {
    let mut value: Option<String> = None;
    for stage in action.split('|') {
        let words: Vec<&str> = stage.split_whitespace().collect();
        value = Some(match (value, words.as_slice()) {
            (None, [field]) if field.starts_with('.') => about.field(&field[1..]).ok_or_else(|| unknown(field))?,
            (None, [function, field]) if field.starts_with('.') => {
                apply(function, about.field(&field[1..]).ok_or_else(|| unknown(field))?)?
            }
            (Some(value), [function]) => apply(function, value)?,
            _ => return Err(Error::unsupported(format!("{{{{{action}}}}} in a log tag"))),
        });
    }
    Ok(value.unwrap_or_default())
}

fn apply(function: &str, value: String) -> Result<String, Error> {
    match function {
        "lower" => Ok(value.to_lowercase()),
        "upper" => Ok(value.to_uppercase()),
        "json" => Ok(serde_json::Value::String(value).to_string()),
        "print" | "html" | "urlquery" if value.chars().all(|c| c.is_ascii_alphanumeric()) => Ok(value),
        _ => Err(Error::unsupported(format!("the function {function:?} in a log tag"))),
    }
}

fn unknown(field: &str) -> Error {
    Error::invalid(format!("template: log-tag:1: can't evaluate field {} in type *logger.Info", &field[1..]))
}
