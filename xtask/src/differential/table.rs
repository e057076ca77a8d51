//! Tables of requests, as people write them.
//!
//! One request per line: `METHOD target [body]`. `- ` in front: a step that others need, not compared. `@1.24,1.40 ` in
//! front: the request is made with these API versions; without it, with [`VERSION`]; targets that begin with `//` have
//! none. `NAME = ` in front keeps the answer's `Id` as `{NAME}`; `NAME(/pointer) = ` another string. `#` starts a comment.

use anyhow::{Context, Result};

/// The newest version that dockerd speaks.
const VERSION: &str = "1.51";

/// The requests about one area.
pub(super) struct Table {
    pub(super) area: String,
    pub(super) requests: Vec<Request>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Method and target as the table has them.
    pub(super) label: String,
    pub(super) method: String,
    pub(super) target: String,
    /// JSON mostly, sometimes broken on purpose.
    pub(super) body: Option<String>,
    /// Name and JSON pointer of what later requests use.
    pub(super) keep: Option<(String, String)>,
    pub(super) compared: bool,
}

impl Table {
    /// Reads a table.
    pub(super) fn read(area: &str, text: &str) -> Result<Table> {
        let mut requests = Vec::new();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            requests.extend(read(line).with_context(|| line.to_owned())?);
        }
        Ok(Table { area: area.to_owned(), requests })
    }

    /// How many requests are compared.
    pub(super) fn compared(&self) -> usize {
        self.requests.iter().filter(|request| request.compared).count()
    }
}

fn read(line: &str) -> Result<Vec<Request>> {
    let step = line.strip_prefix("- ");
    let mut rest = step.unwrap_or(line);
    let mut versions = vec![VERSION];
    if let Some(after) = rest.strip_prefix('@') {
        let (list, after) = after.split_once(' ').context("versions and nothing else")?;
        versions = list.split(',').collect();
        rest = after;
    }
    let mut keep = None;
    if let Some((name, after)) = rest.split_once(" = ")
        && !name.contains(' ')
    {
        let (name, place) =
            name.split_once('(').map_or((name, "/Id"), |(name, place)| (name, place.trim_end_matches(')')));
        keep = Some((name.to_owned(), place.to_owned()));
        rest = after;
    }
    let (method, rest) = rest.split_once(' ').context("no target")?;
    let (target, body) = rest.split_once(' ').map_or((rest, None), |(target, body)| (target, Some(body.to_owned())));
    let make = |version: &&str| {
        let target = match target.strip_prefix("//") {
            Some(bare) => format!("/{bare}"),
            None => format!("/v{version}{target}"),
        };
        let label = format!("{method} {target}{}", body.as_deref().map_or(String::new(), |body| format!(" {body}")));
        let (method, body, keep) = (method.to_owned(), body.clone(), keep.clone());
        Request { label, method, target, body, keep, compared: step.is_none() }
    };
    Ok(versions.iter().map(make).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() -> Result<()> {
        let text = "# c\n- a = POST /containers/create {\"Image\": \"x\"}\n@1.24,1.40 GET /info\nGET //_ping\n";
        let table = Table::read("t", text)?;
        assert_eq!((table.requests.len(), table.compared()), (4, 3));
        assert_eq!(table.requests[0].keep, Some(("a".to_owned(), "/Id".to_owned())));
        assert_eq!(table.requests[0].body.as_deref(), Some("{\"Image\": \"x\"}"));
        assert_eq!(table.requests[2].target, "/v1.40/info");
        assert_eq!(table.requests[3].target, "/_ping");
        Ok(())
    }
}
