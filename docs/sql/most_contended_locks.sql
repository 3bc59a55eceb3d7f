-- Which locks are contended most, over all hosts, and how well is it known who had them? Of the
-- time in which somebody waited, it is proved who had the lock in proved_ns, inferred in
-- inferred_ns at most, and not known in the rest.
select t.name as service, l.kind, l.object, sum(l.contended_ns) as contended_ns, sum(l.ns) as waited_ns,
       sum(l.waits) as waits, max(l.longest_ns) as longest, sum(l.proved_ns) as proved_ns,
       sum(l.inferred_ns) as inferred_ns, sum(l.held_running_ns) as held_running_ns,
       sum(l.held_blocked_ns) as held_blocked_ns, count(distinct l.host) as hosts
from locks l
join task_groups t on t.trace = l.trace and t.kind = 'tree'
group by t.name, l.kind, l.object
order by contended_ns desc, waited_ns desc, service, l.object
limit 50;
