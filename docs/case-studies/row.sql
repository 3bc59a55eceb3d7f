\set id random(1, 2)
update counter set n = n + 1 where id = :id;
