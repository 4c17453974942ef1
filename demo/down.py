"""make down: stop what a crashed demo or up left behind."""

from demo.local_airflow import stop_leftovers
from demo.places import airflow_home

if __name__ == "__main__":
    print(f"{stop_leftovers(airflow_home())} processes of {airflow_home()} stopped")
