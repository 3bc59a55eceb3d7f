//! How a file of the workload is read that functions are looked up in.

use blazesym::symbolize::{
    FindSymOpts, ProcessMemberInfo, ProcessMemberType, Reason, Resolve, ResolvedSym, Sym,
    Symbolize, Symbolizer, TranslateFileOffset,
};

use super::{
    apart::Stripped,
    code::{Whose, of_file},
    frames::Named,
    go::GoTable,
    lines::Lines,
    sections::open,
};

/// Looks functions up in files of the workload. `lines`: with source lines.
pub(super) fn symbolizer(lines: bool) -> Symbolizer {
    let lines_of = lines.then(Lines::default);
    let stripped = Stripped::default();
    Symbolizer::builder()
        .enable_code_info(lines)
        .enable_inlined_fns(false)
        .set_process_dispatcher(move |member| Ok(dispatch(&member, lines_of.as_ref(), &stripped)))
        .build()
}

/// What a function is called.
pub(super) fn named(symbol: Sym<'_>) -> Named {
    let line = symbol.code_info.as_deref().and_then(|info| {
        let file = info.file.to_str()?;
        let file = file.rsplit('/').next().unwrap_or(file);
        Some(format!("{file}:{}", info.line?))
    });
    let file = symbol.module.as_ref().and_then(|file| file.to_str());
    let whose = file.map_or(Whose::Unknown, of_file);
    Named {
        line,
        ..Named::new(public(&symbol.name).to_owned(), whose)
    }
}

/// The GNU C library has several names for one function, of which one or the other is found:
/// `__GI___pthread_mutex_lock`, `pthread_mutex_lock@@GLIBC_2.2.5`. A program calls it by the one without all that.
fn public(name: &str) -> &str {
    let name = match name.split_once('@') {
        Some((name, _)) if !name.is_empty() => name,
        _ => name,
    };
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    let public = name.trim_start_matches('_');
    if public.starts_with("pthread_") || public == "clone3" {
        public
    } else {
        name
    }
}

/// What was stripped can be of Go, or have its symbols apart. `None`: it is read as usual.
fn dispatch(
    member: &ProcessMemberInfo<'_>,
    lines: Option<&Lines>,
    stripped: &Stripped,
) -> Option<Box<dyn Resolve>> {
    let ProcessMemberType::Path(path) = member.member_entry else {
        return None;
    };
    let Some(file) = open(&path.maps_file) else {
        return Some(Box::new(Unread));
    };
    if let Some(table) = GoTable::of(&file) {
        return Some(Box::new(table));
    }
    let name = path.symbolic_path.as_os_str();
    if let Some(lines) = lines.and_then(|lines| lines.of(&file, &path.maps_file, name)) {
        return Some(Box::new(lines));
    }
    let apart = stripped.of(&file, &path.maps_file, name)?;
    Some(Box::new(apart))
}

/// In place of a file that is not read: it has no symbols.
#[derive(Debug)]
struct Unread;

impl Symbolize for Unread {
    fn find_sym(
        &self,
        _: u64,
        _: &FindSymOpts,
    ) -> blazesym::Result<Result<ResolvedSym<'_>, Reason>> {
        Ok(Err(Reason::MissingSyms))
    }
}

impl TranslateFileOffset for Unread {
    fn file_offset_to_virt_offset(&self, offset: u64) -> blazesym::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_c_library_have_the_names_that_they_are_called_by() {
        for name in [
            "__pthread_mutex_lock",
            "___pthread_mutex_lock",
            "__GI___pthread_mutex_lock",
            "pthread_mutex_lock@@GLIBC_2.2.5",
        ] {
            assert_eq!(public(name), "pthread_mutex_lock");
        }
        assert_eq!(public("__GI___clone3"), "clone3");
        assert_eq!(public("@"), "@");
        assert_eq!(public("__libc_start_main"), "__libc_start_main");
        assert_eq!(public("pthread_join"), "pthread_join");
    }
}
