-- What do tasks of each role wait in, over all hosts?
select role, reason, sum(blocked_ns) as waited_ns, count(*) as blocks, count(distinct host) as hosts
from stretches
where state = 'blocked'
group by role, reason
order by waited_ns desc, role, reason
limit 50;
