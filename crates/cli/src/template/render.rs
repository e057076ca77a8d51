//! Walks the tree and writes the text.

use super::functions;
use super::parse::{Expr, Node, Pipeline};
use crate::data::Data;

/// What a list of nodes asks its surroundings to do.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Renderer {
    out: String,
    variables: Vec<(String, Data)>,
}

/// Renders `nodes` with `.` and `$` being `data`.
pub(super) fn render(nodes: &[Node], data: &Data) -> Result<String, String> {
    let mut renderer = Renderer { out: String::new(), variables: vec![(String::new(), data.clone())] };
    renderer.nodes(nodes, data)?;
    Ok(renderer.out)
}

impl Renderer {
    fn nodes(&mut self, nodes: &[Node], dot: &Data) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Data) -> Result<Flow, String> {
        let scope = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(&value);
                }
                return Ok(Flow::Next);
            }
            Node::If(pipeline, body, otherwise) => {
                let branch = if self.pipeline(pipeline, dot)?.truth() { body } else { otherwise };
                let flow = self.nodes(branch, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With(pipeline, body, otherwise) => {
                let value = self.pipeline(pipeline, dot)?;
                let flow = if value.truth() { self.nodes(body, &value)? } else { self.nodes(otherwise, dot)? };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(pipeline, body, otherwise) => self.range(pipeline, body, otherwise, dot)?,
        }
        Ok(Flow::Next)
    }

    /// Nothing prints as `<no value>` where Go has no value at all; our nils come from JSON.
    fn print(&mut self, value: &Data) {
        use std::fmt::Write as _;
        let _ = write!(self.out, "{value}");
    }

    fn range(&mut self, pipeline: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Data) -> Result<(), String> {
        let scope = self.variables.len();
        let value = self.commands(pipeline, dot)?;
        let items: Vec<(Data, Data)> = match value {
            Data::List(list) => list.into_iter().enumerate().map(|(n, item)| (Data::Int(n as i64), item)).collect(),
            Data::Map(mut members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members.into_iter().map(|(key, value)| (Data::Text(key), value)).collect()
            }
            Data::Int(n) => (0..n).map(|n| (Data::Int(n), Data::Int(n))).collect(),
            Data::Null => Vec::new(),
            other => return Err(format!("<range>: range can't iterate over {other}")),
        };
        if items.is_empty() {
            self.nodes(otherwise, dot)?;
        }
        for (key, item) in items {
            match pipeline.variables.as_slice() {
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Data) -> Result<Data, String> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            match self.variables.iter_mut().rev().find(|(known, _)| pipeline.assign && known == name) {
                Some((_, place)) => *place = value.clone(),
                None => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Data) -> Result<Data, String> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped.take(), dot)?);
        }
        piped.ok_or_else(|| "<>: empty pipeline".to_owned())
    }

    fn command(&mut self, command: &[Expr], piped: Option<Data>, dot: &Data) -> Result<Data, String> {
        let (head, tail) = command.split_first().ok_or("<>: empty command")?;
        if let Expr::Function(name) = head {
            if let "and" | "or" = name.as_str() {
                return self.short_circuit(name, tail, piped, dot);
            }
            let mut arguments = tail.iter().map(|expr| self.operand(expr, dot)).collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            return functions::call(name, &arguments).map_err(|reason| format!("<{name}>: {reason}"));
        }
        let value = self.operand(head, dot)?;
        let mut arguments = tail.iter().map(|expr| self.operand(expr, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped);
        match (&value, arguments.as_slice()) {
            (Data::Lookup(entries), [Data::Text(key)]) => {
                Ok(Data::text(entries.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)))
            }
            (Data::Head, [Data::Text(key)]) => {
                Ok(Data::Text(key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")))
            }
            (_, []) => Ok(value),
            _ => Err(format!("<{}>: can't give argument to non-function", shown(head))),
        }
    }

    fn short_circuit(&mut self, name: &str, tail: &[Expr], piped: Option<Data>, dot: &Data) -> Result<Data, String> {
        let mut last = None;
        for expr in tail {
            let value = self.operand(expr, dot)?;
            if value.truth() == (name == "or") {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| format!("<{name}>: wrong number of args: want at least 1 got 0"))
    }

    fn operand(&mut self, expr: &Expr, dot: &Data) -> Result<Data, String> {
        match expr {
            Expr::Field(names) => select(dot, names),
            Expr::Variable(name, fields) => {
                let value = self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value);
                select(value.ok_or_else(|| format!("<${name}>: undefined variable"))?, fields)
            }
            Expr::Function(name) => functions::call(name, &[]).map_err(|reason| format!("<{name}>: {reason}")),
            Expr::Text(text) => Ok(Data::text(text)),
            Expr::Int(n) => Ok(Data::Int(*n)),
            Expr::Float(n) => Ok(Data::Float(*n)),
            Expr::Bool(on) => Ok(Data::Bool(*on)),
            Expr::Nil => Ok(Data::Null),
            Expr::Group(pipeline, fields) => select(&self.pipeline(pipeline, dot)?, fields),
        }
    }
}

fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Field(names) => format!(".{}", names.join(".")),
        Expr::Variable(name, fields) => {
            format!("${name}{}", fields.iter().map(|f| format!(".{f}")).collect::<String>())
        }
        _ => "operand".to_owned(),
    }
}

fn select(from: &Data, names: &[String]) -> Result<Data, String> {
    let mut value = from;
    for (n, name) in names.iter().enumerate() {
        value = match (value, value.member(name)) {
            (_, Some(member)) => member,
            (Data::Row(_), None) => {
                return Err(format!("<.{}>: can't evaluate field {name}", names[..=n].join(".")));
            }
            (Data::Map(_), None) => {
                return Err(format!("<.{}>: map has no entry for key {name:?}", names[..=n].join(".")));
            }
            (Data::Null, None) => {
                return Err(format!("<.{}>: nil pointer evaluating interface {{}}.{name}", names[..=n].join(".")));
            }
            (other, None) => {
                return Err(format!(
                    "<.{}>: can't evaluate field {name} in type {}",
                    names[..=n].join("."),
                    kind(other)
                ));
            }
        };
    }
    Ok(value.clone())
}

fn kind(data: &Data) -> &'static str {
    match data {
        Data::Bool(_) => "bool",
        Data::Int(_) => "int",
        Data::Float(_) => "float64",
        Data::List(_) => "[]interface {}",
        _ => "string",
    }
}
