-- Who waits for one lock, file or peer, over all hosts, and who ends these waits? This asks of
-- the thing that was waited for longest; put `object = '…'` in place of the sub-query.
select role, waker, ended, count(*) as waits, sum(blocked_ns) as waited_ns, max(blocked_ns) as longest_ns
from stretches
where object in (
  select object from (
    select object, sum(ns) as ns from objects
    where object is not null
    group by object order by ns desc, object limit 1
  ) longest
)
group by role, waker, ended
order by waited_ns desc, role, waker, ended;
