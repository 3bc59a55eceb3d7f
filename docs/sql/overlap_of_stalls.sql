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
  select a.host as host, a.service as one, b.service as other,
         row_number() over (order by a.host, a.service, b.service) as pair
  from services a
  join services b on a.host = b.host
  where a.service < b.service
), edges as (
  select p.pair as pair,
         case when e.step = 1 then s.from_ns else s.until_ns end as at_ns,
         case when s.service = p.one then e.step else 0 end as of_one,
         case when s.service = p.one then 0 else e.step end as of_other
  from of_service s
  join pairs p on p.host = s.host
  cross join (select 1 as step union all select -1 as step) e
  where s.service = p.one or s.service = p.other
), lasting as (
  -- Of several edges at one moment only the last one lasts, and its sums are those of all of them.
  select pair, at_ns, lead(at_ns) over w as next_ns,
         sum(of_one) over w as in_one, sum(of_other) over w as in_other
  from edges
  window w as (partition by pair order by at_ns)
), both_blocked as (
  select pair, sum(next_ns - at_ns) as ns
  from lasting
  where in_one > 0 and in_other > 0
  group by pair
)
select p.one as one, p.other as other, count(*) as hosts, sum(b.ns) as both_ns
from both_blocked b
join pairs p on p.pair = b.pair
group by p.one, p.other
order by both_ns desc, one, other;
