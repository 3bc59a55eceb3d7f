-- What do tasks of each role wait in, over all hosts?
select role, reason, sum(ns) as waited_ns, sum(count) as blocks, count(distinct host) as hosts
from minutes
where state = 'blocked'
group by role, reason
order by waited_ns desc, role, reason
limit 50;
