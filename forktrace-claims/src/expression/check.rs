//! Finds what is wrong with an expression before it is evaluated: names that
//! the figures don't have, unknown functions.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};

use super::{
    functions::{KNOWN, Returns, unit_shape},
    number::METHODS,
    shape::Shape,
    text::text,
};

/// What is wrong, and with which part.
pub(super) struct Wrong {
    pub(super) id: u64,
    pub(super) message: String,
}

/// Checks an expression and tells the shape of its value.
pub(super) fn check(expr: &IdedExpr, figures: &Shape) -> Result<Shape, Wrong> {
    Check {
        figures,
        scope: Vec::new(),
    }
    .expr(expr)
}

struct Check<'a> {
    figures: &'a Shape,
    /// Variables of macros, the innermost last.
    scope: Vec<(&'a str, Shape)>,
}

impl<'a> Check<'a> {
    fn expr(&mut self, expr: &'a IdedExpr) -> Result<Shape, Wrong> {
        let wrong = |message| Wrong {
            id: expr.id,
            message,
        };
        match &expr.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Shape::Bool,
                LiteralValue::String(_) => Shape::Text,
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => {
                    Shape::Number
                }
                LiteralValue::Bytes(_) | LiteralValue::Null => Shape::Any,
            }),
            Expr::Ident(name) => self.variable(name).map_err(wrong),
            Expr::Select(select) => {
                let shape = self.expr(&select.operand)?;
                if select.test {
                    return Ok(Shape::Bool);
                }
                shape.field(&select.field).map_err(|names| {
                    let operand = text(&select.operand);
                    let field = &select.field;
                    wrong(if names.is_empty() {
                        format!("{operand} is {}, it has no {field}", shape.in_words())
                    } else {
                        format!("{operand} has no {field}; it has {}", names.join(", "))
                    })
                })
            }
            Expr::Call(call) => self.call(call).map_err(|mut found| {
                if found.id == NO_PLACE {
                    found.id = expr.id;
                }
                found
            }),
            Expr::Comprehension(c) => self.comprehension(c),
            Expr::List(list) => {
                let mut of = Shape::Any;
                for element in &list.elements {
                    of = self.expr(element)?;
                }
                Ok(Shape::list(of))
            }
            Expr::Map(map) => {
                let mut fields = Vec::new();
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let shape = self.expr(&entry.value)?;
                        if let Expr::Literal(LiteralValue::String(name)) = &entry.key.expr {
                            fields.push((name.inner().to_string(), shape));
                        }
                    }
                }
                Ok(Shape::object(fields))
            }
            Expr::Struct(_) => Err(wrong("there are no types of that kind here".to_owned())),
            Expr::Unspecified => Ok(Shape::Any),
        }
    }

    fn variable(&self, name: &str) -> Result<Shape, String> {
        if let Some((_, shape)) = self.scope.iter().rev().find(|(n, _)| *n == name) {
            return Ok(shape.clone());
        }
        match self.figures.field(name) {
            Ok(shape) => Ok(shape),
            Err(names) => unit_shape(name).ok_or_else(|| {
                format!(
                    "there is no {name}; there are {}, us, ms, s",
                    names.join(", ")
                )
            }),
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Shape, Wrong> {
        let mut shapes = Vec::new();
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            shapes.push(self.expr(argument)?);
        }
        let shape_of = |i: usize| shapes.get(i).cloned().unwrap_or(Shape::Any);
        let wrong = |message| Wrong {
            id: NO_PLACE,
            message,
        };
        Ok(match call.func_name.as_str() {
            operators::INDEX => match shape_of(0) {
                Shape::List(of) => (*of).clone(),
                shape @ Shape::Object { .. } => match call.args.get(1).map(|a| &a.expr) {
                    Some(Expr::Literal(LiteralValue::String(name))) => {
                        shape.field(name.inner()).map_err(|names| {
                            wrong(format!(
                                "there is no {:?}; there are {}",
                                name.inner(),
                                names.join(", ")
                            ))
                        })?
                    }
                    _ => Shape::Any,
                },
                Shape::Any => Shape::Any,
                other => return Err(wrong(format!("{} has no parts", other.in_words()))),
            },
            operators::CONDITIONAL => match shape_of(1) {
                Shape::Any => shape_of(2),
                shape => shape,
            },
            // Lists and texts can be joined.
            operators::ADD => match (shape_of(0), shape_of(1)) {
                (Shape::List(_), list @ Shape::List(_)) => list,
                (shape, other) => {
                    self.numeric(call, other)?;
                    self.numeric(call, shape)?
                }
            },
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
                for shape in shapes {
                    self.numeric(call, shape)?;
                }
                Shape::Number
            }
            operators::NEGATE => self.numeric(call, shape_of(0))?,
            operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS => {
                for shape in shapes {
                    self.numeric(call, shape)?;
                }
                Shape::Bool
            }
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::EQUALS
            | operators::NOT_EQUALS
            | operators::IN
            | operators::NOT_STRICTLY_FALSE => Shape::Bool,
            name if METHODS.contains(&name) && call.target.is_none() => {
                return Err(wrong(format!("{name} is written text.{name}(part)")));
            }
            name => self.function(name, shapes.len()).map_err(wrong)?,
        })
    }

    /// A row or a list in arithmetic is a mistake: mostly `.value` is missing.
    fn numeric(&self, call: &CallExpr, shape: Shape) -> Result<Shape, Wrong> {
        match shape {
            Shape::Object { .. } | Shape::List(_) => Err(Wrong {
                id: NO_PLACE,
                message: format!(
                    "{} can't be computed with: it is {}",
                    call.args.iter().map(text).collect::<Vec<_>>().join(" or "),
                    shape.in_words()
                ),
            }),
            other => Ok(other),
        }
    }

    fn function(&self, name: &str, arguments: usize) -> Result<Shape, String> {
        let Some(function) = KNOWN.iter().find(|known| known.name == name) else {
            let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
            return Err(format!(
                "there is no function {name}; there are {}, and the macros has, all, exists, \
                 exists_one, filter, map",
                names.join(", ")
            ));
        };
        let (fewest, most) = function.arguments;
        if !(fewest..=most).contains(&arguments) {
            return Err(format!("{name} takes {fewest} arguments, not {arguments}"));
        }
        for (needs, function) in [("marks", "mark"), ("tasks", "task")] {
            if name == function && self.figures.field(needs).is_err() {
                return Err(format!(
                    "{name} is for expressions over the report of a run; there are no {needs} here"
                ));
            }
        }
        if name == "blocked" && self.figures.field("running").is_err() {
            return Err("blocked is for the conditions of `forktrace watch`".to_owned());
        }
        Ok(match function.result {
            Returns::Number => Shape::Number,
            Returns::Bool => Shape::Bool,
            Returns::Text => Shape::Text,
            Returns::Any => Shape::Any,
            Returns::Task => match self.figures.field("tasks") {
                Ok(Shape::List(of)) => (*of).clone(),
                _ => Shape::Any,
            },
        })
    }

    fn comprehension(&mut self, c: &'a ComprehensionExpr) -> Result<Shape, Wrong> {
        let range = self.expr(&c.iter_range)?;
        let item = match &range {
            Shape::List(of) => (**of).clone(),
            Shape::Any => Shape::Any,
            Shape::Object { .. } => Shape::Text,
            other => {
                return Err(Wrong {
                    id: c.iter_range.id,
                    message: format!(
                        "{} is {}, and not a list",
                        text(&c.iter_range),
                        other.in_words()
                    ),
                });
            }
        };
        let accumulated = self.expr(&c.accu_init)?;
        let before = self.scope.len();
        self.scope.push((&c.iter_var, item));
        if let Some(second) = &c.iter_var2 {
            self.scope.push((second, Shape::Any));
        }
        self.scope.push((&c.accu_var, accumulated));
        self.expr(&c.loop_cond)?;
        let step = self.expr(&c.loop_step)?;
        self.scope.truncate(before);
        self.scope.push((&c.accu_var, step));
        let result = self.expr(&c.result);
        self.scope.truncate(before);
        result
    }
}

/// The place of the call itself, which the caller knows.
const NO_PLACE: u64 = u64::MAX;
