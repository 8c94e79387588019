//! YAML, with plain scalars kept as they are written.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{DEEPEST, Fault, Member, Node};

pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new() };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root.unwrap_or(Node::Null)),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => {
                return Err(fault(&span, "not one YAML document but several"));
            }
            event => root = Some(reader.node(event, 0)?),
        }
    }
}

fn fault(span: &Span, why: impl Into<String>) -> Fault {
    Fault { line: span.start.line(), why: why.into() }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// The scalars that aliases may repeat. Lists and maps are not repeated, so no text can grow
    /// beyond its size.
    anchors: HashMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        let scan = |error: ScanError| Fault {
            line: error.marker().line(),
            why: format!("not YAML: {}", error.info()),
        };
        self.events.next().unwrap_or(Ok((Event::StreamEnd, Span::default()))).map_err(scan)
    }

    /// The node that `event` starts.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, Fault> {
        if depth > DEEPEST {
            self.skip(&event)?;
            return Ok(Node::Unusable("is nested too deeply"));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = || {
                    if style == ScalarStyle::Plain && is_null(&text) && !is_string(tag.as_deref()) {
                        Node::Null
                    } else {
                        Node::Scalar(text.to_string())
                    }
                };
                if anchor > 0 {
                    self.anchors.insert(anchor, scalar());
                }
                Ok(scalar())
            }
            Event::Alias(anchor) => Ok(match self.anchors.get(&anchor) {
                Some(Node::Scalar(text)) => Node::Scalar(text.clone()),
                Some(Node::Null) => Node::Null,
                _ => Node::Unusable("is a YAML alias of a list or map; write it out"),
            }),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()?.0 {
                        Event::SequenceEnd | Event::StreamEnd => return Ok(Node::List(items)),
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth),
            _ => Ok(Node::Null),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Fault> {
        let mut members = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Node::Map(members));
            }
            let key = match self.node(event, depth + 1)? {
                Node::Scalar(key) => key,
                Node::Null => String::new(),
                _ => return Err(fault(&span, "a key of a map is not plain text")),
            };
            let (event, _) = self.next()?;
            let value = self.node(event, depth + 1)?;
            members.push(Member { key, line: span.start.line(), value });
        }
    }

    /// Reads on to the end of the node that `event` starts, without recursion.
    fn skip(&mut self, event: &Event<'a>) -> Result<(), Fault> {
        let mut open = usize::from(opens(event));
        while open > 0 {
            match self.next()?.0 {
                Event::SequenceEnd | Event::MappingEnd => open -= 1,
                Event::StreamEnd => return Ok(()),
                event => open += usize::from(opens(&event)),
            }
        }
        Ok(())
    }
}

fn opens(event: &Event<'_>) -> bool {
    matches!(event, Event::SequenceStart(..) | Event::MappingStart(..))
}

/// The plain scalars that YAML's core schema takes for null.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn is_string(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
}
