-- For how long were two services all blocked at the same time, on one host? Of the stalls that are
-- listed (audit.stalls_listed of audit.stalls).
with of_service as (
  select g.name as service, s.host as host, s.start_ns as from_ns, s.start_ns + s.length_ns as until_ns
  from stalls s
  join task_groups g on g.trace = s.trace and g.group_id = s.group_id
  where g.kind = 'tree' and s.verdict <> 'idle'
), services as (
  select distinct host, name as service from task_groups where kind = 'tree'
), pairs as (
  select a.host as host, a.service as one, b.service as other
  from services a
  join services b on a.host = b.host
  where a.service < b.service
), edges as (
  select p.host as host, p.one as one, p.other as other,
         case when e.step = 1 then s.from_ns else s.until_ns end as at_ns,
         case when s.service = p.one then e.step else 0 end as of_one,
         case when s.service = p.one then 0 else e.step end as of_other
  from of_service s
  join pairs p on p.host = s.host
  cross join (select 1 as step union all select -1 as step) e
  where s.service = p.one or s.service = p.other
), moments as (
  select host, one, other, at_ns, sum(of_one) as more_of_one, sum(of_other) as more_of_other
  from edges
  group by host, one, other, at_ns
), lasting as (
  select host, one, other, at_ns, lead(at_ns) over w as next_ns,
         sum(more_of_one) over w as in_one, sum(more_of_other) over w as in_other
  from moments
  window w as (partition by host, one, other order by at_ns)
)
select one, other, count(distinct host) as hosts, sum(next_ns - at_ns) as both_ns
from lasting
where in_one > 0 and in_other > 0
group by one, other
order by both_ns desc, one, other;
