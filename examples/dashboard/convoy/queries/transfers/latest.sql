-- The newest transfers, with names. A join is read again when it changes; it still moves together with the rest.
-- @param most int4 = 8
select t.id, t.at, sender.owner as sender, receiver.owner as receiver, t.amount
from transfers t
join accounts sender on sender.id = t.sender
join accounts receiver on receiver.id = t.receiver
order by t.id desc
limit $1
