//! Tokens to a tree.

use std::collections::HashSet;

use super::functions;
use super::lex::Token;

/// A piece of the template.
#[derive(Debug)]
pub(super) enum Node {
    /// Literal text.
    Text(String),
    /// Prints a pipeline (or only sets its variable).
    Action(Pipeline),
    /// `if`.
    If(Pipeline, Vec<Node>, Vec<Node>),
    /// `with`.
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// `range`.
    Range(Pipeline, Vec<Node>, Vec<Node>),
    /// `break`.
    Break,
    /// `continue`.
    Continue,
}

/// Commands joined by `|`, perhaps assigned to variables.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Variables set by it.
    pub(super) variables: Vec<String>,
    /// They exist already (`=` instead of `:=`).
    pub(super) assign: bool,
    /// The commands; each gets the result of the one before as its last argument.
    pub(super) commands: Vec<Vec<Expr>>,
}

/// An operand.
#[derive(Debug)]
pub(super) enum Expr {
    /// `.a.b`.
    Field(Vec<String>),
    /// `$x.a.b`.
    Variable(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// `nil`.
    Nil,
    /// `(pipeline).a.b`.
    Group(Box<Pipeline>, Vec<String>),
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    variables: HashSet<String>,
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum Stop {
    Eof,
    End,
    Else,
}

/// Parses all of `tokens`.
pub(super) fn parse(tokens: &[Token]) -> Result<Vec<Node>, String> {
    let mut parser = Parser { tokens, at: 0, variables: HashSet::from([String::new()]) };
    match parser.nodes()? {
        (nodes, Stop::Eof) => Ok(nodes),
        (_, Stop::End) => Err("unexpected {{end}}".to_owned()),
        (_, Stop::Else) => Err("unexpected {{else}}".to_owned()),
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn close(&mut self, place: &str) -> Result<(), String> {
        match self.next() {
            Some(Token::Close) => Ok(()),
            _ => Err(format!("unexpected token in {place}")),
        }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                None => return Ok((nodes, Stop::Eof)),
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(Token::Open) => {
                    let word = match self.peek() {
                        Some(Token::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match word.as_str() {
                        "end" => {
                            self.at += 1;
                            self.close("end")?;
                            return Ok((nodes, Stop::End));
                        }
                        "else" => {
                            self.at += 1;
                            return Ok((nodes, Stop::Else));
                        }
                        _ => nodes.push(self.action(&word)?),
                    }
                }
                Some(token) => return Err(format!("unexpected {token:?}")),
            }
        }
    }

    fn action(&mut self, word: &str) -> Result<Node, String> {
        match word {
            "if" | "with" | "range" => {
                self.at += 1;
                self.block(word)
            }
            "break" | "continue" => {
                self.at += 1;
                self.close(word)?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "template" | "define" | "block" => Err(format!("{{{{{word}}}}} is not supported")),
            _ => {
                let pipeline = self.pipeline()?;
                self.close("command")?;
                Ok(Node::Action(pipeline))
            }
        }
    }

    fn block(&mut self, word: &str) -> Result<Node, String> {
        let outer = self.variables.clone();
        let pipeline = self.pipeline()?;
        self.close(word)?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            Stop::Eof => return Err(format!("unexpected EOF in {word}")),
            Stop::End => Vec::new(),
            Stop::Else => self.otherwise(word)?,
        };
        self.variables = outer;
        Ok(match word {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, String> {
        if let Some(Token::Word(next)) = self.peek().cloned() {
            if next != word || word == "range" {
                return Err(format!("unexpected {next} in else"));
            }
            self.at += 1;
            return Ok(vec![self.block(word)?]);
        }
        self.close("else")?;
        match self.nodes()? {
            (nodes, Stop::End) => Ok(nodes),
            _ => Err("expected end after else".to_owned()),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, String> {
        let (variables, assign) = self.declaration()?;
        let mut commands = Vec::new();
        loop {
            commands.push(self.command()?);
            match self.peek() {
                Some(Token::Pipe) => self.at += 1,
                _ => break,
            }
        }
        self.variables.extend(variables.iter().cloned());
        Ok(Pipeline { variables, assign, commands })
    }

    /// Reads `$a, $b :=` when it stands there.
    fn declaration(&mut self) -> Result<(Vec<String>, bool), String> {
        let names: Vec<&Token> = self.tokens[self.at..].iter().take(4).collect();
        let (names, sign, length) = match names.as_slice() {
            [Token::Variable(a), sign @ (Token::Declare | Token::Assign), ..] => (vec![a.clone()], *sign, 2),
            [Token::Variable(a), Token::Comma, Token::Variable(b), sign @ (Token::Declare | Token::Assign)] => {
                (vec![a.clone(), b.clone()], *sign, 4)
            }
            _ => return Ok((Vec::new(), false)),
        };
        let assign = *sign == Token::Assign;
        if assign && let Some(unknown) = names.iter().find(|name| !self.variables.contains(*name)) {
            return Err(format!("undefined variable \"${unknown}\""));
        }
        self.at += length;
        Ok((names, assign))
    }

    fn command(&mut self) -> Result<Vec<Expr>, String> {
        let mut operands = Vec::new();
        while let Some(token) = self.peek().cloned() {
            self.at += 1;
            operands.push(match token {
                Token::Field(names) => Expr::Field(names),
                Token::Variable(name) => {
                    if !self.variables.contains(&name) {
                        return Err(format!("undefined variable \"${name}\""));
                    }
                    let fields = match self.peek() {
                        Some(Token::Field(fields)) if !fields.is_empty() => fields.clone(),
                        _ => Vec::new(),
                    };
                    self.at += usize::from(!fields.is_empty());
                    Expr::Variable(name, fields)
                }
                Token::Quoted(text) => Expr::Text(text),
                Token::Int(n) => Expr::Int(n),
                Token::Float(n) => Expr::Float(n),
                Token::Word(word) => match word.as_str() {
                    "true" | "false" => Expr::Bool(word == "true"),
                    "nil" => Expr::Nil,
                    _ if functions::exists(&word) => Expr::Function(word),
                    _ => return Err(format!("function {word:?} not defined")),
                },
                Token::Left => {
                    let pipeline = self.pipeline()?;
                    match self.next() {
                        Some(Token::Right(fields)) => Expr::Group(Box::new(pipeline), fields),
                        _ => return Err("unclosed left paren".to_owned()),
                    }
                }
                _ => {
                    self.at -= 1;
                    break;
                }
            });
        }
        if operands.is_empty() { Err("missing value for command".to_owned()) } else { Ok(operands) }
    }
}

/// Tells whether `.name` occurs.
pub(super) fn mentions(nodes: &[Node], name: &str) -> bool {
    nodes.iter().any(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => false,
        Node::Action(pipeline) => in_pipeline(pipeline, name),
        Node::If(pipeline, a, b) | Node::With(pipeline, a, b) | Node::Range(pipeline, a, b) => {
            in_pipeline(pipeline, name) || mentions(a, name) || mentions(b, name)
        }
    })
}

fn in_pipeline(pipeline: &Pipeline, name: &str) -> bool {
    pipeline.commands.iter().flatten().any(|expr| match expr {
        Expr::Field(fields) | Expr::Variable(_, fields) => fields.first().is_some_and(|field| field == name),
        Expr::Group(inner, _) => in_pipeline(inner, name),
        _ => false,
    })
}
