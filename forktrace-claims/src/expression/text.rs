//! An expression as text again.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::number;

/// The expression as one would write it; a macro is cut short.
pub(super) fn text(expr: &IdedExpr) -> String {
    text_with(expr, &[])
}

/// The same, with some variables replaced by what they stand for.
pub(super) fn text_with(expr: &IdedExpr, variables: &[(&str, String)]) -> String {
    let of = |expr: &IdedExpr| text_with(expr, variables);
    match &expr.expr {
        Expr::Ident(name) => variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map_or_else(|| name.clone(), |(_, stands_for)| stands_for.clone()),
        Expr::Select(select) if select.test => {
            format!("has({}.{})", of(&select.operand), select.field)
        }
        Expr::Select(select) => format!("{}.{}", of(&select.operand), select.field),
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(b) => b.inner().to_string(),
            LiteralValue::Double(x) => super::json_number(*x.inner()).to_string(),
            LiteralValue::Int(i) => i.inner().to_string(),
            LiteralValue::UInt(i) => i.inner().to_string(),
            LiteralValue::String(s) => format!("{:?}", s.inner()),
            LiteralValue::Bytes(_) => "bytes".to_owned(),
            LiteralValue::Null => "null".to_owned(),
        },
        Expr::List(list) => {
            let elements: Vec<_> = list.elements.iter().map(of).collect();
            format!("[{}]", elements.join(", "))
        }
        Expr::Comprehension(c) => format!("{}.…", of(&c.iter_range)),
        Expr::Call(call) => {
            let args: Vec<_> = call.args.iter().map(of).collect();
            match (call.func_name.as_str(), args.as_slice()) {
                (operators::INDEX, [list, index]) => format!("{list}[{index}]"),
                (number::INDEX, [index]) => index.clone(),
                (operators::CONDITIONAL, [c, a, b]) => format!("{c} ? {a} : {b}"),
                (operators::LOGICAL_NOT, [a]) => format!("!{a}"),
                (operators::NEGATE, [a]) => format!("-{a}"),
                (operators::IN, [a, b]) => format!("{a} in {b}"),
                (number::REMAINDER, [a, b]) => format!("{a} % {b}"),
                (name, [a, b]) if name.starts_with('_') && name.ends_with('_') => {
                    format!("{a} {} {b}", name.trim_matches('_'))
                }
                (name, _) => {
                    let name = name.trim_start_matches('@');
                    let target = call.target.as_deref().map(of);
                    let target = target.map_or(String::new(), |target| format!("{target}."));
                    format!("{target}{name}({})", args.join(", "))
                }
            }
        }
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => "{…}".to_owned(),
    }
}
