"""The same valid files give what gin itself gives, whatever the scopes."""

import os
import subprocess
import sys

import config_fake_run as fake
import pytest

from t2tjax import config

HEAD = """
from __gin__ import dynamic_registration
import config_fake_run as train_script
import config_fake_run as fake
"""
BASE = (
  HEAD
  + """
MODEL = @fake.Model()
fake.Model.network = @fake.Network()
fake.Network.emb_dim = 8
train_script.train:
  model = %MODEL
  model_dir = 'x'
  train_cfg = @train/fake.DatasetConfig()
  total_steps = 3
fake.DatasetConfig.task = 'a'
"""
)
CASES = {
  "inner scope beats outer": """
train_script.train.eval_cfg = @train/deep/fake.DatasetConfig()
fake.DatasetConfig.batch_size = 1
train/fake.DatasetConfig.batch_size = 2
train/deep/fake.DatasetConfig.seed = 3
""",
  "a macro is a scope of its own name": """
MODEL/fake.Network.emb_dim = 9
""",
  "a reference without scope inherits the scope": """
train_script.train.extra = [@big/fake.Model(), {'a': (@fake.Network(),)}]
big/fake.Network.emb_dim = 99
""",
  "a reference with a scope replaces the scope": """
train_script.train.extra = @big/fake.Model()
big/fake.Model.network = @small/fake.Network()
big/fake.Network.emb_dim = 99
small/fake.Network.dropout_rate = 0.5
""",
  "macros chain and are late": """
A = %B
train_script.train.extra = [%A, %A, %C]
B = 1
C = 'c'
B = (2, [3, None])
""",
  "methods and functions": """
fake.Model.predict.num_decodes = 5
fake.Model.decode = @s/fake.greedy
s/fake.greedy.max_length = 6
train_script.train.learning_rate_fn = @fake.schedule()
fake.schedule.base = 4.0
""",
  "singletons": """
train_script.train.extra = [@one/gin.singleton(), @one/gin.singleton()]
one/gin.singleton.constructor = @fake.Network
""",
}
DESCRIBE = """
import sys, config_fake_run as fake
def describe(value):
  if isinstance(value, fake.Model):
    decode = value.decode and value.decode([])
    return ('Model', describe(value.network), decode, value.predict([]))
  if isinstance(value, dict):
    return {k: describe(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return type(value)(describe(v) for v in value)
  return value(100) if callable(value) else value
"""
NATIVE = (
  DESCRIBE
  + """
import gin
gin.parse_config_file(sys.argv[1])
gin.get_configurable(fake.train)()
call = fake.CALLS[-1]
print(repr({k: describe(v) for k, v in sorted(call.items())}))
"""
)


@pytest.mark.parametrize("case", CASES)
def test_run_function_gets_what_gin_gives(tmp_path, case):
  path = tmp_path / "run.gin"
  path.write_text(BASE + CASES[case])
  here = os.path.dirname(__file__)
  native = subprocess.run(
    [sys.executable, "-c", NATIVE, str(path)],
    capture_output=True,
    text=True,
    timeout=60,
    env={**os.environ, "PYTHONPATH": here},
  )
  assert native.returncode == 0, native.stderr
  space: dict = {}
  exec(DESCRIBE, space)
  fake.train(**config.load(fake.train, [str(path)]).arguments())
  call = fake.CALLS[-1]
  ours = {k: space["describe"](v) for k, v in sorted(call.items())}
  assert repr(ours) == native.stdout.strip()
