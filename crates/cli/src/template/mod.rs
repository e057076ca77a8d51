//! The part of Go's template language that `--format` needs.
//!
//! Actions: pipelines, variables, `if`/`else if`, `range`/`else`, `with`, comments, trimming
//! (`{{-`, `-}}`), and Docker's and Go's functions. Reference: text/template's documentation and
//! surface section 2.5.

mod functions;
mod lex;
mod parse;
mod render;

use crate::data::Data;
use crate::error::Error;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Template, Error> {
        let nodes = lex::lex(text)
            .and_then(|tokens| parse::parse(&tokens))
            .map_err(|reason| Error::new(format_args!("template: :1: {reason}")))?;
        Ok(Template { nodes })
    }

    /// Parses the `--format` of a command that shows one object: `json` is everything as JSON.
    pub(crate) fn of_object(format: Option<&str>) -> Result<Option<Template>, Error> {
        let text = match format {
            None | Some("") => return Ok(None),
            Some("json") => "{{json .}}",
            Some(text) => text,
        };
        let wrong = |error| Error::Status { message: format!("template parsing error: {error}"), code: 64 };
        Template::parse(text).map(Some).map_err(wrong)
    }

    /// Renders with `.` being `data`.
    pub(crate) fn render(&self, data: &Data) -> Result<String, Error> {
        render::render(&self.nodes, data)
            .map_err(|reason| Error::new(format_args!("template: :1:2: executing \"\" at {reason}")))
    }

    /// Tells whether the field `.name` is used anywhere.
    pub(crate) fn uses(&self, name: &str) -> bool {
        parse::mentions(&self.nodes, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(template: &str) -> String {
        let data = Data::parse(
            br#"{"Name":"web","Id":"abc","N":3,"Zero":0,"On":true,"Nil":null,"List":["a","b","c"],
                "Ports":{"80/tcp":[{"HostPort":"8080"}],"53/udp":null},"Html":"<a&'\">","Big":123456789012}"#,
        )
        .unwrap();
        match Template::parse(template).and_then(|template| template.render(&data)) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn golden() {
        for (template, want) in [
            ("plain", "plain"),
            ("{{.Name}}-{{.ID}}", "web-abc"),
            ("{{json .List}}", r#"["a","b","c"]"#),
            ("{{.List}} {{.Nil}}", "[a b c] <nil>"),
            ("{{range .List}}<{{.}}>{{end}}", "<a><b><c>"),
            ("{{range $i, $e := .List}}{{$i}}={{$e}},{{end}}", "0=a,1=b,2=c,"),
            (
                "{{range $k, $v := .Ports}}{{$k}} {{(index $v 0).HostPort}};{{end}}",
                "error: template: :1:2: executing \"\" at <index>: index out of range: 0",
            ),
            (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (r#"{{index .Ports "80/tcp" 0 "HostPort"}}"#, "8080"),
            ("{{if .On}}yes{{else}}no{{end}} {{if .Zero}}yes{{else if .N}}n{{else}}no{{end}}", "yes n"),
            ("{{with .Nil}}x{{else}}none{{end}}{{with .Name}}[{{.}}{{$.Id}}]{{end}}", "none[webabc]"),
            (r#"{{join .List ","}} {{upper .Name}} {{lower "ABC"}} {{title "abc def"}}"#, "a,b,c WEB abc Abc Def"),
            (r#"{{split "a:b" ":"}} {{pad .Name 2 1}}|{{truncate "abcdef" 3}}"#, "[a b]   web |abc"),
            (r#"{{.Name | printf "%s-%s" "x" | len}}"#, "5"),
            (
                r#"{{printf "%s %d %q %v %5s|%-5s|%03d %x %t %%" .Name .N .Name .List "r" "l" 7 255 true}}"#,
                "web 3 \"web\" [a b c]     r|l    |007 ff true %",
            ),
            (
                "{{len .List}} {{eq .Name \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge 2 3}} {{eq .N 1 2 3}}",
                "3 true true true false true",
            ),
            ("{{and .On .Name}} {{or .Zero .Name}} {{not .On}}", "web web false"),
            ("{{println .Name .N}}{{print .N 4 .Name}}", "web 3\n3 4web"),
            ("{{slice .Name 1 2}} {{slice .List 1}}", "e [b c]"),
            ("{{html .Html}} {{urlquery \"a b&c\"}} {{js \"it's\"}}", "&lt;a&amp;&#39;&#34;&gt; a+b%26c it\\'s"),
            ("a {{- .Name -}}  b {{/* note */}}c", "awebb c"),
            ("{{$x := .Name}}{{$x}}{{$x = \"new\"}}{{$x}}", "webnew"),
            (
                "{{.Missing}}",
                "error: template: :1:2: executing \"\" at <.Missing>: map has no entry for key \"Missing\"",
            ),
            ("{{range .Nil}}x{{else}}empty{{end}}", "empty"),
            ("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}} {{range .List}}{{break}}{{end}}", "ac "),
            ("{{.Big}} {{`raw`}} {{'a'}} {{true}} {{1.5}} {{nil | json}}", "123456789012 raw 97 true 1.5 null"),
        ] {
            let got = show(template);
            assert_eq!(got, want, "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_refused() {
        for bad in [
            "{{",
            "{{.Name",
            "{{if .X}}",
            "{{end}}",
            "{{nosuch .X}}",
            "{{else}}",
            "{{\"a}}",
            "{{$x}}",
            "{{)}}",
            "{{range}}{{end}}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_in_use_are_seen() {
        let template = Template::parse("{{if .Size}}{{.Name | printf \"%s\"}}{{end}}").unwrap();
        assert!(template.uses("Size") && template.uses("Name") && !template.uses("Ports"));
    }
}
