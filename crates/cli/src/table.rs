//! Tables and rows: `--format` in all its forms, printed with Docker's column rules.

use std::io::Write as _;

use crate::data::Data;
use crate::error::Error;
use crate::template::Template;

/// No column is narrower.
const MIN_WIDTH: usize = 10;
/// Spaces after the widest cell.
const PADDING: usize = 3;

/// Aligns lines whose cells are separated by tabs: a column is as wide as its widest cell plus
/// three, at least ten; the last cell of a line is not padded.
pub(crate) fn align(text: &str) -> String {
    align_columns(text, MIN_WIDTH, PADDING)
}

/// The wider layout that `top` has.
pub(crate) fn align_wide(text: &str) -> String {
    align_columns(text, 20, 3)
}

fn align_columns(text: &str, least: usize, padding: usize) -> String {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|row| vec![0; row.len().saturating_sub(1)]).collect();
    // A column is a run of neighbouring lines that have a terminated cell there.
    let columns = widths.iter().map(Vec::len).max().unwrap_or_default();
    for column in 0..columns {
        let mut start = 0;
        while start < rows.len() {
            if widths[start].len() <= column {
                start += 1;
                continue;
            }
            let end = (start..rows.len()).find(|&n| widths[n].len() <= column).unwrap_or(rows.len());
            let widest = (start..end).map(|n| rows[n][column].chars().count()).max().unwrap_or_default();
            let width = (widest + padding).max(least);
            widths[start..end].iter_mut().for_each(|row| row[column] = width);
            start = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (row, widths) in rows.iter().zip(&widths) {
        for (n, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(n) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

/// What a list command shows and under which names.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// Template of the default table, without `table `.
    pub(crate) table: &'a str,
    /// Template with `-q`.
    pub(crate) quiet: &'a str,
    /// Column heads by field name.
    pub(crate) heads: &'a [(&'a str, &'a str)],
}

/// A `--format` that was understood.
#[derive(Debug)]
pub(crate) enum Format {
    /// A template per row, with a head line and aligned columns.
    Table(Template),
    /// A template per row.
    Plain(Template),
    /// One JSON object per row.
    Json,
}

impl Listing<'_> {
    /// Understands `--format` together with `-q`.
    pub(crate) fn format(&self, format: &str, quiet: bool) -> Result<Format, Error> {
        self.read(format, quiet).map_err(|error| Error::new(format_args!("failed to parse template: {error}")))
    }

    fn read(&self, format: &str, quiet: bool) -> Result<Format, Error> {
        let format = format.trim_start();
        if quiet && (format.is_empty() || format == "table") {
            return Ok(Format::Plain(Template::parse(self.quiet)?));
        }
        let unescaped = || format.replace("\\t", "\t").replace("\\n", "\n");
        match format {
            "" | "table" => Ok(Format::Table(Template::parse(self.table)?)),
            "json" => Ok(Format::Json),
            _ => match unescaped().strip_prefix("table") {
                Some(rest) if rest.starts_with([' ', '\t']) => Ok(Format::Table(Template::parse(rest.trim_start())?)),
                _ => Ok(Format::Plain(Template::parse(&unescaped())?)),
            },
        }
    }

    /// What the template meets for the head line: fields without a given head are shown in capitals.
    fn head_row(&self, first: Option<&Data>) -> Data {
        let mut heads: Vec<(String, Data)> =
            self.heads.iter().map(|(field, head)| ((*field).to_owned(), Data::from(*head))).collect();
        heads.push(("Label".to_owned(), Data::Head));
        if let Some(Data::Row(members)) = first {
            for (name, _) in members {
                if !heads.iter().any(|(known, _)| known == name) {
                    heads.push((name.clone(), Data::text(name.to_uppercase())));
                }
            }
        }
        Data::Map(heads)
    }

    /// Renders all rows.
    pub(crate) fn render(&self, format: &Format, rows: &[Data]) -> Result<String, Error> {
        self.write(format, rows).map_err(|error| Error::new(format_args!("failed to execute template: {error}")))
    }

    fn write(&self, format: &Format, rows: &[Data]) -> Result<String, Error> {
        let mut text = String::new();
        match format {
            Format::Json => rows.iter().for_each(|row| {
                text.push_str(&row.to_json());
                text.push('\n');
            }),
            Format::Plain(template) => {
                for row in rows {
                    text.push_str(&template.render(row)?);
                    text.push('\n');
                }
            }
            Format::Table(template) => {
                text.push_str(&template.render(&self.head_row(rows.first()))?);
                text.push('\n');
                for row in rows {
                    text.push_str(&template.render(row)?);
                    text.push('\n');
                }
                text = align(&text);
            }
        }
        Ok(text)
    }
}

/// Writes to standard output at once.
pub(crate) fn put(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes bytes to standard output at once.
pub(crate) fn put_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard output.
pub(crate) fn put_line(text: &str) -> Result<(), Error> {
    put(&format!("{text}\n"))
}

/// Cuts a text to `most` characters, the last being an ellipsis.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_ten_wide_at_least_and_three_apart() {
        assert_eq!(align("A\tB\tC\n1\t2\t3\n"), "A         B         C\n1         2         3\n");
        assert_eq!(align("NAME\tX\nabcdefghijkl\ty\n"), "NAME           X\nabcdefghijkl   y\n");
        assert_eq!(align("lone\nA\tB\n"), "lone\nA         B\n");
    }

    #[test]
    fn formats() {
        let listing =
            Listing { table: "{{.ID}}\t{{.Name}}", quiet: "{{.ID}}", heads: &[("ID", "THE ID"), ("Name", "NAME")] };
        let rows = [Data::Row(vec![
            ("Name".into(), "web".into()),
            ("ID".into(), "1".into()),
            ("Label".into(), Data::Lookup(vec![("a".into(), "b".into())])),
        ])];
        let show = |format: &str, quiet| listing.render(&listing.format(format, quiet).unwrap(), &rows).unwrap();
        assert_eq!(show("", false), "THE ID    NAME\n1         web\n");
        assert_eq!(show("table {{.Name}}\\t{{.ID}}", false), "NAME      THE ID\nweb       1\n");
        assert_eq!(show("", true), "1\n");
        assert_eq!(show("json", false), "{\"ID\":\"1\",\"Name\":\"web\"}\n");
        assert_eq!(show("{{.Name}}={{.Label \"a\"}}", true), "web=b\n");
    }
}
