-- All the money there is. A transfer moves it and never changes it.
select count(*) as accounts, coalesce(sum(balance), 0) as balance
from accounts
