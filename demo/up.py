"""Run `make up`: keep the demo's Airflow running until Ctrl-C."""

import signal
import sys
import time
from pathlib import Path

from clipdex.config import Settings
from demo.local_airflow import AirflowFailed, LocalAirflow
from demo.places import airflow_home, home
from demo.samples import DAYS, write_samples


def main() -> None:
    write_samples(Settings.load(home=home()).state / "samples")
    print("Starting Airflow …", flush=True)
    with LocalAirflow(airflow_home(), {"CLIPDEX_HOME": str(home())}) as airflow:
        print(f"""
Airflow is up:   {airflow.url}
Log in as:       {airflow.user} / {airflow.password}

Backfill:        {airflow.url}/dags/ingest_clips → Trigger → Backfill, {DAYS[0]} to {DAYS[-1]}
Search:          Clips in the navigation, or: clipdex search "people riding bicycles"
Terminal:        export AIRFLOW_HOME={airflow.home}, for {Path(sys.executable).with_name("airflow")}
Stop:            Ctrl-C
""", flush=True)  # fmt: skip
        while True:
            airflow.check()
            time.sleep(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except AirflowFailed as error:
        sys.exit(f"up: {error}")
    except KeyboardInterrupt:
        print("stopped")
